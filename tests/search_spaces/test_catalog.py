"""Built-in spaces contain their default, and its network trains."""

import subprocess
import sys

import pytest
import torch

from search_spaces.catalog import catalog, example, load
from search_spaces.cost import cost
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.plugins import UnknownNameError
from search_spaces.task import Task

TASKS = [Task(inputs={"image": shape}, num_classes=10) for shape in ((1, 8, 8), (1, 28, 28))]


@pytest.mark.parametrize("name", catalog())
def test_the_default_is_in_the_space_and_trains(name: str) -> None:
    space = load(name)
    default = space.default()
    assert default in space
    assert space.resolve(ReplaySuggester(space.encode(default))) == default
    torch.manual_seed(0)
    task = example(name)
    network = default.architecture.build(task)
    inputs = {stream: torch.rand(4, *shape) for stream, shape in task.inputs.items()}
    output = network(inputs)
    (output.logits_BK.square().sum() + output.values_BV.square().sum()).backward()
    starved = [key for key, weight in network.named_parameters() if weight.grad is None]
    assert starved == []


def test_a_stages_block_is_named_by_the_stage_itself() -> None:
    params = load("hybrid").encode(load("hybrid").default())
    stage = "architecture.streams.image.stages.1"
    assert params[stage] == "gate"
    assert params[f"{stage}.gate.attention.heads"] == 4


def test_the_hybrid_space_holds_both_forms_and_what_they_are_made_of() -> None:
    described = [load("hybrid").resolve(RandomSuggester(seed)).describe() for seed in range(200)]
    assert any("gate" in one for one in described)
    assert any("T" in one and "gate" not in one for one in described)
    for letters in ("C", "M", "N", "T", "CT", "MT", "NT"):
        assert any(f"-{letters}" in one for one in described), letters


@pytest.mark.parametrize(
    ("space", "others"), [("convolution", {"T"}), ("transformer", {"C", "M", "N"})]
)
def test_the_baselines_are_pure(space: str, others: set[str]) -> None:
    for seed in range(50):
        assert not set(load(space).resolve(RandomSuggester(seed)).describe()) & others


def test_the_hybrid_default_costs_no_more_than_the_plain_network_of_three_convolutions() -> None:
    hybrid, plain = (
        cost(load(name).default().architecture, TASKS[1]) for name in ("hybrid", "convolution")
    )
    assert hybrid.flops < plain.flops
    assert hybrid.parameters < plain.parameters
    # What batch normalisation, rectifiers and pooling touch costs as much time as arithmetic.
    assert hybrid.activation_bytes < plain.activation_bytes


def test_tiny_networks_are_tiny() -> None:
    for seed in range(20):
        assert cost(load("tiny").resolve(RandomSuggester(seed)).architecture, TASKS[0]).flops < 3e6


def test_an_unknown_space_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'hybrid'"):
        load("hybird")


def test_naming_the_spaces_loads_no_torch() -> None:
    code = "import sys; from search_spaces.catalog import catalog; catalog(); print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"torch" not in printed.stdout.split()


def test_the_wide_space_holds_every_hybrid_form() -> None:
    sampled = [str(load("wide").resolve(RandomSuggester(seed)).architecture) for seed in range(200)]
    forms = ("grid", "shifted", "linear", "convolution", "relative", "rotary", "none")
    mixes = ("sum", "concatenate", "cross_attention", "channel", "scalar", "token")
    for word in (*forms, *mixes, "tokens", "patch", "rms"):
        assert any(f"='{word}'" in one for one in sampled), word
    assert any("hard=True" in one for one in sampled)


def test_every_space_has_a_task_that_its_default_is_built_for() -> None:
    for name in catalog():
        assert cost(load(name).default().architecture, example(name)).flops > 0
    with pytest.raises(UnknownNameError, match="Did you mean 'sequence'"):
        example("sequense")


def test_the_spaces_of_steps_hold_every_form_of_reading_a_sequence() -> None:
    sampled = [
        str(load("sequence").resolve(RandomSuggester(seed)).architecture) for seed in range(99)
    ]
    forms = ("lstm", "gru", "sinusoidal", "rotary", "relative", "learned", "last", "average")
    for word in forms:
        assert any(f"='{word}'" in one for one in sampled), word
    for kind in ("Recurrent", "TemporalConvolution", "SegmentMemory", "Attention", "Gate"):
        assert any(f"block={kind}(" in one for one in sampled), kind


def test_the_spaces_of_several_streams_hold_every_fusion() -> None:
    kinds = {
        load("image_text").resolve(RandomSuggester(seed)).architecture.fusion.kind
        for seed in range(50)
    }
    assert kinds == {"concatenate", "gated", "cross_attention", "two_tower"}


def test_vectors_are_read_whole_or_number_by_number_and_only_tokens_attend() -> None:
    described = [load("vector").resolve(RandomSuggester(seed)) for seed in range(60)]
    tokens = [one.architecture.streams["vector"].stem.tokens for one in described]
    attends = ["T" in one.describe() for one in described]
    assert {*tokens} == {True, False}
    assert {*attends} == {True, False}
    assert all(split for split, attend in zip(tokens, attends, strict=True) if attend)
