"""Architectures round-trip as data, and networks have the shapes that they declare."""

import json
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Classify,
    Concatenate,
    ConvolutionStem,
    Gate,
    PatchStem,
    Residual,
    Stage,
    UnbuildableError,
)
from search_spaces.blocks.gate import gate_values
from search_spaces.task import Task

TASK = Task(inputs={"image": (1, 12, 12)}, num_classes=5)
STREAM = Stream(
    stem=ConvolutionStem(width=8, reduction="pool"),
    stages=(
        Stage(width=16, depth=1, block=Residual()),
        Stage(
            width=16,
            depth=2,
            reduction="none",
            block=Gate(convolution=Residual(), attention=Attention(heads=2)),
        ),
    ),
)


def architecture(**streams: Stream) -> Architecture:
    return Architecture(
        streams=streams or {"image": STREAM}, fusion=Concatenate(), head=Classify(dropout=0.1)
    )


def test_the_walk_names_every_piece_and_its_shape() -> None:
    assert architecture().walk(TASK) == {
        "streams.image.stem": (8, 6, 6),
        "streams.image.stages.0": (16, 3, 3),
        "streams.image.stages.1": (16, 3, 3),
        "fusion": (16,),
        "head": (5,),
    }


def test_every_module_gives_the_shape_that_the_walk_promised() -> None:
    network = architecture().build(TASK)
    seen = {}
    modules = dict(network.named_modules())
    for name in architecture().walk(TASK):

        def look(module: nn.Module, given: object, made: Any, name: str = name) -> None:
            seen[name] = tuple((made.logits_BK if name == "head" else made).shape[1:])

        modules[name].register_forward_hook(look)
    network({"image": torch.randn(3, 1, 12, 12)})
    assert seen == architecture().walk(TASK)


def test_a_network_gives_scores_embedding_and_on_request_auxiliary_scores() -> None:
    inputs = {"image": torch.randn(3, 1, 12, 12)}
    plain = architecture().build(TASK)(inputs)
    assert plain.logits_BK.shape == (3, 5)
    assert plain.embedding_BD.shape == (3, 16)
    assert plain.auxiliary == ()
    assisted = architecture().build(TASK, auxiliary=True)(inputs)
    assert [scores.shape for scores in assisted.auxiliary] == [(3, 5)]


def test_auxiliary_scores_come_from_before_the_last_stage() -> None:
    torch.manual_seed(0)
    network = architecture().build(TASK, auxiliary=True)
    output = network({"image": torch.randn(3, 1, 12, 12)})
    output.auxiliary[0].sum().backward()
    first, last = network.streams["image"].stages
    assert all(parameter.grad is not None for parameter in first.parameters())
    assert all(parameter.grad is None for parameter in last.parameters())


def test_auxiliary_scores_of_a_single_stage_come_from_the_stem() -> None:
    stream = Stream(stem=PatchStem(width=8), stages=(Stage(width=16, depth=1, block=Residual()),))
    network = architecture(image=stream).build(TASK, auxiliary=True)
    assert network.streams["image"].auxiliary.score.in_features == 8
    bare = architecture(image=Stream(stem=PatchStem(width=8), stages=()))
    assert bare.build(TASK, auxiliary=True)({"image": torch.randn(1, 1, 12, 12)}).auxiliary == ()


def test_the_head_reads_the_embedding() -> None:
    network = architecture().build(TASK).eval()
    output = network({"image": torch.randn(3, 1, 12, 12)})
    torch.testing.assert_close(network.head(output.embedding_BD).logits_BK, output.logits_BK)


def test_gates_can_be_read_by_their_module_name() -> None:
    network = architecture().build(TASK)
    network({"image": torch.randn(3, 1, 12, 12)})
    gates = gate_values(network)
    assert list(gates) == ["streams.image.stages.1.0", "streams.image.stages.1.1"]
    assert all(gate.shape == (3, 16) for gate in gates.values())
    assert not any("gate" in name for name in network.state_dict())


def test_several_streams_are_joined_into_one_embedding() -> None:
    two = architecture(image=STREAM, depth=STREAM)
    task = Task(inputs={"depth": (1, 12, 12), "image": (3, 10, 16)}, num_classes=2)
    output = two.build(task, auxiliary=True)(
        {"image": torch.randn(2, 3, 10, 16), "depth": torch.randn(2, 1, 12, 12)}
    )
    assert output.embedding_BD.shape == (2, 32)
    assert len(output.auxiliary) == 2
    assert two.describe() == "C8-C16-CT16x2 + C8-C16-CT16x2 gate"


def test_the_same_seed_builds_the_same_weights() -> None:
    torch.manual_seed(3)
    one = architecture().build(TASK).state_dict()
    torch.manual_seed(3)
    other = architecture().build(TASK).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_weights_start_by_the_rule_that_the_architecture_names() -> None:
    torch.manual_seed(0)
    values = {"streams": {"image": STREAM}, "fusion": Concatenate(), "head": Classify()}
    narrow = Architecture(**values, initialisation="truncated_normal").build(TASK)
    assert narrow.head.score.weight.std().item() < 0.03
    assert Architecture(**values).build(TASK).head.score.weight.std().item() > 0.2


def test_an_architecture_survives_the_round_trip_through_json() -> None:
    data = json.loads(json.dumps(architecture().to_dict()))
    assert Architecture.from_dict(data) == architecture()
    assert set(data) == {"streams", "fusion", "head", "initialisation"}
    assert set(data["streams"]["image"]) == {"stem", "stages"}


def test_malformed_data_says_what_is_wrong() -> None:
    data = architecture().to_dict()
    with pytest.raises(ValueError, match="architecture: the field 'head' is missing"):
        Architecture.from_dict({name: data[name] for name in ("streams", "fusion")})
    with pytest.raises(ValueError, match=r"architecture: no field 'haed'\. Did you mean 'head'"):
        Architecture.from_dict({**data, "haed": 1})
    with pytest.raises(ValueError, match="stream: the field 'stem' is missing"):
        Architecture.from_dict({**data, "streams": {"image": {"stages": []}}})


def test_a_description_names_blocks_widths_and_repetitions() -> None:
    assert architecture().describe() == "C8-C16-CT16x2 gate"
    vision = Stream(
        stem=PatchStem(width=8), stages=(Stage(width=8, depth=3, block=Attention(heads=2)),)
    )
    assert architecture(image=vision).describe() == "P8-T8x3"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            Stage(width=10, depth=1, block=Attention(heads=4)),
            r"architecture\.streams\.image\.stages\.0: heads must divide 10 channels",
        ),
        (
            Stage(width=8, depth=1, block=Residual(kernel=2)),
            r"architecture\.streams\.image\.stages\.0: kernel must be odd",
        ),
    ],
)
def test_what_cannot_be_built_says_where_and_why(stage: Stage, message: str) -> None:
    with pytest.raises(UnbuildableError, match=message):
        architecture(image=Stream(stem=PatchStem(width=8), stages=(stage,))).build(TASK)


def test_a_network_must_read_what_the_data_gives() -> None:
    with pytest.raises(UnbuildableError, match=r"reads \['image'\], the data gives \['sound'\]"):
        architecture().walk(Task(inputs={"sound": (1, 8, 8)}, num_classes=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fusion": Concatenate(pooling="averge")}, "fusion: .*Did you mean 'average'"),
        ({"head": Classify(dropout=1.0)}, "head: dropout must be"),
        ({"streams": {}}, "reads"),
        ({"initialisation": "hee"}, "initialisation: .*Did you mean 'he'"),
    ],
)
def test_impossible_ends_are_refused(change: dict[str, object], message: str) -> None:
    values = {"streams": {"image": STREAM}, "fusion": Concatenate(), "head": Classify(), **change}
    with pytest.raises(UnbuildableError, match=message):
        Architecture(**values).build(TASK)


def test_fewer_than_two_classes_are_refused() -> None:
    with pytest.raises(UnbuildableError, match="at least 2 classes"):
        architecture().walk(Task(inputs={"image": (1, 8, 8)}, num_classes=1))
