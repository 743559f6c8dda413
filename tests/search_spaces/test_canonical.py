"""Encodings of one network share a digest; different networks do not."""

from dataclasses import replace

import pytest
import torch

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Block,
    Chain,
    Classify,
    Concatenate,
    ConvolutionStem,
    Gate,
    MBConv,
    Parallel,
    PatchStem,
    Residual,
    SegmentMemory,
    SeriesStem,
    Stage,
    TemporalConvolution,
)
from search_spaces.candidate import Candidate
from search_spaces.canonical import canonical
from search_spaces.catalog import load
from search_spaces.cost import cost
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.task import Task

TASK = Task(inputs={"image": (1, 8, 8)}, num_classes=4)
STEM = ConvolutionStem(width=16, reduction="stride")
WHOLE = ConvolutionStem(width=16, reduction="none")
LAYOUT = Attention(heads=2)


def candidate(*stages: Stage, stem: Block = STEM) -> Candidate:
    architecture = Architecture(
        streams={"image": Stream(stem=stem, stages=stages)}, fusion=Concatenate(), head=Classify()
    )
    return Candidate(architecture=architecture, space_name="s", space_version="1")


def stage(block: Block, width: int = 16, depth: int = 1, **rest: object) -> Stage:
    return Stage(width=width, depth=depth, block=block, **{"reduction": "none", **rest})


EQUIVALENT = [
    (candidate(stage(LAYOUT)), candidate(stage(LAYOUT, reduction="pool"))),
    (candidate(stage(LAYOUT)), candidate(stage(LAYOUT, kernel=5, normalisation="layer"))),
    (candidate(stage(LAYOUT, 32)), candidate(stage(LAYOUT, 32, reduction="stride"))),
    (
        candidate(stage(LAYOUT, 32, reduction="patch")),
        candidate(stage(LAYOUT, 32, reduction="patch", kernel=7)),
    ),
    (candidate(stage(LAYOUT)), candidate(stage(MBConv(), depth=0), stage(LAYOUT))),
    (candidate(stage(Residual(), 8, 0)), candidate(stage(MBConv(), 8, 0))),
    (candidate(stage(LAYOUT)), candidate(stage(replace(LAYOUT, window=3)))),
    (candidate(stage(LAYOUT)), candidate(stage(replace(LAYOUT, stride=2)))),
    (candidate(stage(LAYOUT)), candidate(stage(replace(LAYOUT, scope="grid", window=9)))),
    (candidate(stage(LAYOUT)), candidate(stage(Chain(blocks=(LAYOUT,))))),
    (
        candidate(stage(Chain(blocks=(LAYOUT, Residual(), LAYOUT)))),
        candidate(stage(Chain(blocks=(LAYOUT, Chain(blocks=(Residual(), LAYOUT)))))),
    ),
    (
        candidate(stage(Parallel(first=Residual(), second=LAYOUT))),
        candidate(stage(Parallel(first=Residual(), second=LAYOUT, heads=8))),
    ),
    (
        candidate(stage(Gate(convolution=Residual(), attention=LAYOUT))),
        candidate(stage(Gate(convolution=Residual(), attention=replace(LAYOUT, window=2)))),
    ),
    (candidate(stem=PatchStem(patch=2)), candidate(stem=PatchStem(patch=7))),
    (
        candidate(stage(replace(LAYOUT, mlp_ratio=0.0))),
        candidate(stage(replace(LAYOUT, mlp_ratio=0.0, activation="relu"))),
    ),
    (candidate(stage(MBConv())), candidate(stage(MBConv(halving="first")))),
    (
        candidate(stage(MBConv(), 32, reduction="stride")),
        candidate(stage(MBConv(halving="first"), 32, reduction="stride")),
    ),
    (
        candidate(stage(Chain(blocks=(LAYOUT, MBConv())))),
        candidate(stage(Chain(blocks=(LAYOUT, MBConv(halving="first"))))),
    ),
]


@pytest.mark.parametrize(("one", "other"), EQUIVALENT)
def test_two_encodings_of_a_network_have_the_same_digest(one: Candidate, other: Candidate) -> None:
    assert one.digest != other.digest
    assert one.network_digest(TASK) == other.network_digest(TASK)
    image = torch.randn(2, 1, 8, 8)
    scores = []
    for each in (one, other):
        torch.manual_seed(0)
        scores.append(each.architecture.build(TASK).eval()({"image": image}).logits_BK)
    torch.testing.assert_close(*scores)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (candidate(stage(LAYOUT, 32)), candidate(stage(LAYOUT, 32, kernel=5))),
        (candidate(stage(LAYOUT, 32)), candidate(stage(LAYOUT, 32, reduction="tokens"))),
        (candidate(stage(LAYOUT)), candidate(stage(replace(LAYOUT, scope="grid", window=2)))),
        (candidate(stem=PatchStem(patch=2)), candidate(stem=PatchStem(patch=2, overlap=1))),
        (
            candidate(stage(MBConv(), 32, reduction="block"), stem=WHOLE),
            candidate(stage(MBConv(halving="first"), 32, reduction="block"), stem=WHOLE),
        ),
    ],
)
def test_options_with_an_effect_change_the_digest(one: Candidate, other: Candidate) -> None:
    assert one.network_digest(TASK) != other.network_digest(TASK)


def sequence(block: Block) -> Candidate:
    architecture = Architecture(
        streams={"series": Stream(stem=SeriesStem(width=16), stages=(stage(block),))},
        fusion=Concatenate(),
        head=Classify(),
    )
    return Candidate(architecture=architecture, space_name="s", space_version="1")


@pytest.mark.parametrize(
    ("one", "other", "length", "same"),
    [
        (SegmentMemory(segment=16), SegmentMemory(segment=32), 16, True),
        (SegmentMemory(segment=16), SegmentMemory(segment=32), 12, True),
        (SegmentMemory(segment=20), SegmentMemory(segment=32), 20, True),
        (SegmentMemory(segment=16), SegmentMemory(segment=32), 17, False),
        (TemporalConvolution(kernel=1), TemporalConvolution(kernel=1, dilation=4), 16, True),
        (TemporalConvolution(kernel=2), TemporalConvolution(kernel=2, dilation=4), 16, False),
        (TemporalConvolution(dilation=4), TemporalConvolution(dilation=8), 4, True),
        (TemporalConvolution(dilation=2), TemporalConvolution(dilation=1), 1, True),
        (TemporalConvolution(dilation=2), TemporalConvolution(dilation=4), 3, False),
        (Attention(positions="rotary"), Attention(positions="none"), 1, True),
        (Attention(positions="rotary"), Attention(positions="none"), 2, False),
    ],
)
def test_encodings_of_sequence_blocks(one: Block, other: Block, length: int, same: bool) -> None:
    task = Task(inputs={"series": (length, 6)}, num_classes=3)
    digests = {sequence(block).network_digest(task) for block in (one, other)}
    assert (len(digests) == 1) is same
    series = torch.randn(2, length, 6)
    scores = []
    for block in (one, other):
        torch.manual_seed(0)
        network = sequence(block).architecture.build(task).eval()
        scores.append(network({"series": series}).logits_BK)
    assert torch.equal(*scores) is same


def test_an_option_without_effect_on_a_small_image_has_one_on_a_large_image() -> None:
    one, other = EQUIVALENT[0]
    large = Task(inputs={"image": (1, 32, 32)}, num_classes=4)
    assert one.network_digest(large) != other.network_digest(large)


def test_a_network_that_says_nothing_needless_keeps_its_digest() -> None:
    for name in ("tiny", "hybrid"):
        default = load(name).default()
        task = Task(inputs={"image": (1, 32, 32)}, num_classes=4)
        assert default.network_digest(task) == default.digest


def test_the_canonical_form_is_its_own_and_costs_the_same() -> None:
    respelt = 0
    for seed in range(20):
        architecture = load("wide").resolve(RandomSuggester(seed)).architecture
        plain = canonical(architecture, TASK)
        respelt += plain != architecture
        assert canonical(plain, TASK) == plain
        assert cost(plain, TASK) == cost(architecture, TASK)
    assert respelt > 5


@pytest.mark.parametrize(("length", "same"), [(1, True), (2, False)])
def test_pooling_and_kernels_have_no_effect_on_a_single_step(length: int, same: bool) -> None:
    task = Task(inputs={"series": (length, 6)}, num_classes=3)
    one = sequence(Attention()).architecture
    stages = (stage(Attention(), 32, kernel=5),)
    wide, wider = (
        replace(one, streams={"series": Stream(stem=SeriesStem(width=16), stages=(each,))})
        for each in (stage(Attention(), 32), *stages)
    )
    for left, right in ((one, replace(one, fusion=Concatenate(pooling="last"))), (wide, wider)):
        assert (canonical(left, task) == canonical(right, task)) is same
        scores = []
        for each in (left, right):
            torch.manual_seed(0)
            series = torch.arange(12.0 * length).reshape(2, length, 6)
            scores.append(each.build(task).eval()({"series": series}).logits_BK)
        assert torch.equal(*scores) is same
