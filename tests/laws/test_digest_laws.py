"""The law of the digest: encodings of a network share it, different candidates do not."""

import json
from dataclasses import replace

import pytest

from search_spaces.architecture import Architecture
from search_spaces.blocks import Attention, Block, Chain, MBConv, Stage
from search_spaces.candidate import Candidate
from search_spaces.catalog import load
from search_spaces.cost import cost
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.loss_terms import LossWeights
from search_spaces.recipe import Recipe
from search_spaces.task import Task

TASK = Task(inputs={"image": (1, 16, 16)}, num_classes=4)
SPACES = ("hybrid", "wide", "transformer")
PLAIN = {"recipe": Recipe(), "losses": LossWeights()}


def respelt(candidate: Candidate) -> Candidate:
    """The same network, recipe and losses, with everything added that has no effect."""
    architecture, losses = candidate.architecture, candidate.losses
    stream = architecture.streams["image"]
    width = stream.stem.out_shape(TASK.inputs["image"])[0]
    nothing = Stage(width=width, depth=0, reduction="none", block=MBConv(kernel=5))
    stages = [replace(stage, block=_wrapped(stage.block)) for stage in stream.stages]
    stream = replace(stream, stages=(nothing, *stages))
    doubled = {name: replace(term, weight=2 * term.weight) for name, term in losses.terms.items()}
    return replace(
        candidate,
        architecture=replace(architecture, streams={"image": stream}),
        losses=replace(losses, terms=doubled),
        space_version="respelt",
    )


def _wrapped(block: Block) -> Block:
    if isinstance(block, Attention):
        window = 5 if block.scope == "all" else block.window
        stride = block.stride if block.form == "convolution" else 3
        block = replace(block, window=window, stride=stride)
    return Chain(blocks=(Chain(blocks=(block,)),))


@pytest.mark.parametrize("name", SPACES)
def test_every_network_has_the_same_digest_in_its_other_encodings(name: str, samples: int) -> None:
    space = load(name)
    for seed in range(samples // len(SPACES)):
        sampled = space.resolve(RandomSuggester(seed))
        other = respelt(sampled)
        assert other.digest != sampled.digest
        assert other.network_digest(TASK) == sampled.network_digest(TASK), sampled.describe()
        again = Candidate.from_dict(json.loads(json.dumps(other.to_dict())))
        assert again == other, "the candidate keeps its own encoding"


def test_no_two_different_candidates_share_a_digest(samples: int) -> None:
    space = load("wide")
    sampled = {space.resolve(RandomSuggester(seed)).digest for seed in range(samples)}
    by_network = {space.resolve(RandomSuggester(s)).network_digest(TASK) for s in range(samples)}
    assert len(by_network) == len(sampled) == samples


def test_networks_that_share_a_digest_are_one_network(samples: int) -> None:
    """Small networks, among which chance finds duplicates: they cost and weigh the same."""
    space, found = load("tiny"), dict[str, Architecture]()
    duplicates = 0
    for seed in range(samples // 2):
        sampled = replace(space.resolve(RandomSuggester(seed)), **PLAIN)
        other = found.setdefault(sampled.network_digest(TASK), sampled.architecture)
        if other is not sampled.architecture:
            duplicates += 1
            assert cost(other, TASK) == cost(sampled.architecture, TASK)
    assert duplicates
    assert len(found) > 9
