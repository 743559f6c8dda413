"""Fusions combine streams, and heads make the task's predictions."""

import copy
import json
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Classify,
    Concatenate,
    ConvolutionStem,
    CrossAttentionFusion,
    Gate,
    Gated,
    MultiTaskHead,
    ProjectionHead,
    RawStem,
    Recurrent,
    Regress,
    Residual,
    SeriesStem,
    SpectrogramStem,
    Stage,
    TokenStem,
    TwoTower,
    UnbuildableError,
    VectorStem,
)
from search_spaces.blocks.gate import gate_values
from search_spaces.blocks.initialisation import initialize
from search_spaces.cost import cost
from search_spaces.model_output import ModelOutput
from search_spaces.task import Shape, Task

SHAPES: dict[str, Shape] = {"image": (12, 3, 4), "series": (5, 8), "vector": (1, 6)}
FUSIONS = [
    Gated(width=16),
    Gated(width=16, detail="scalar", pooling="maximum"),
    CrossAttentionFusion(asking="series", width=16),
    CrossAttentionFusion(asking="image", width=16, heads=2, pooling="flatten"),
    TwoTower(width=16),
]


def task(num_classes: int = 0, num_values: int = 0) -> Task:
    return Task(inputs={}, num_classes=num_classes, num_values=num_values)


def maps(batch: int = 3) -> dict[str, torch.Tensor]:
    return {name: torch.randn(batch, *shape) for name, shape in SHAPES.items()}


def started(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    whole = nn.Sequential(module)
    initialize(whole, "he")
    return whole[0]


@pytest.mark.parametrize(
    ("head", "asked", "logits", "values"),
    [
        (Classify(), task(4), (3, 4), None),
        (Classify(hidden=9, dropout=0.1), task(2), (3, 2), None),
        (Regress(), task(0, 2), None, (3, 2)),
        (Regress(hidden=5), task(0, 1), None, (3, 1)),
        (MultiTaskHead(), task(4, 2), (3, 4), (3, 2)),
        (MultiTaskHead(), task(4), (3, 4), None),
        (MultiTaskHead(hidden=3), task(0, 2), None, (3, 2)),
        (ProjectionHead(width=6), task(), None, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(8,), (2, 8)], ids=["embedding", "towers"])
def test_a_head_gives_what_the_task_asks_for(
    head: Any, asked: Task, logits: Shape | None, values: Shape | None, shape: Shape
) -> None:
    x = torch.randn(3, *shape)
    output: ModelOutput = started(head.build(shape, asked))(x)
    assert (tuple(output.logits_BK.shape) if output.logits_BK.numel() else None) == logits
    assert (tuple(output.values_BV.shape) if output.values_BV.numel() else None) == values
    answers = [one[1] for one in (logits, values) if one]
    promised = head.out_shape(shape, asked)
    if answers:
        assert promised == (sum(answers),)
        assert torch.equal(output.embedding_BD, x.flatten(1))
    else:
        assert output.embedding_BD.shape == (3, math.prod(promised))


@pytest.mark.parametrize(
    ("head", "shape", "asked", "message"),
    [
        (Classify(), (8,), task(1), "at least 2 classes"),
        (Classify(), (8,), task(3, 1), "also has regression targets; use the head 'both'"),
        (Classify(), (8, 3, 3), task(3), "needs an embedding"),
        (Classify(hidden=-1), (8,), task(3), "hidden must not be negative"),
        (Regress(), (8,), task(3), "has no regression targets; use the head 'classify'"),
        (Regress(), (8,), task(3, 1), "also has classes; use the head 'both'"),
        (Regress(dropout=1.0), (8,), task(0, 1), "dropout"),
        (MultiTaskHead(), (8,), task(), "at least 2 classes or a regression target"),
        (MultiTaskHead(), (8,), task(1, 1), "at least 2 classes or a regression target"),
        (ProjectionHead(), (8,), task(3), "neither classes nor regression targets"),
        (ProjectionHead(), (8,), task(0, 3), "neither classes nor regression targets"),
        (ProjectionHead(width=0), (8,), task(), "width must be at least 1"),
    ],
    ids=str,
)
def test_a_head_refuses_a_task_that_it_does_not_fit(
    head: Any, shape: Shape, asked: Task, message: str
) -> None:
    with pytest.raises(UnbuildableError, match=message):
        head.build(shape, asked)


def test_an_embedding_head_gives_projections_of_length_one_each_tower_by_itself() -> None:
    head = started(ProjectionHead(width=6).build((2, 8), task()))
    x = torch.randn(3, 2, 8)
    output = head(x)
    assert [tower.shape for tower in output.towers] == [(3, 6), (3, 6)]
    for tower, project, own in zip(output.towers, head.project, x.unbind(1), strict=True):
        expected = project(own) / project(own).norm(dim=1, keepdim=True)
        torch.testing.assert_close(tower, expected)
    assert torch.equal(output.embedding_BD, torch.cat(output.towers, dim=1))
    alone = started(ProjectionHead(width=6).build((8,), task()))(x[:, 0])
    assert alone.towers == ()
    torch.testing.assert_close(alone.embedding_BD.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_a_fusion_gives_the_shape_it_promises(fusion: Any) -> None:
    assert started(fusion.build(SHAPES))(maps()).shape == (3, *fusion.out_shape(SHAPES))


@pytest.mark.parametrize("detail", ["channel", "scalar"])
def test_gated_streams_are_mixed_by_shares_that_sum_to_one(detail: str) -> None:
    module = started(Gated(width=16, detail=detail).build(SHAPES))
    with torch.no_grad():
        module.decide.weight.mul_(50)
    given = maps()
    pooled = {"image": given["image"].mean((2, 3))}
    pooled |= {name: given[name].mean(1) for name in ("series", "vector")}
    sides = [torch.tanh(module.project[name](pooled[name])) for name in SHAPES]
    scores = module.decide(torch.cat(list(pooled.values()), dim=1)).reshape(3, 3, -1)
    shares = scores.exp() / scores.exp().sum(1, keepdim=True)
    expected = sum(shares[:, index] * side for index, side in enumerate(sides))
    torch.testing.assert_close(module(given), expected)
    assert shares.std(0).max() > 0.01


def test_gated_streams_begin_near_an_even_mix() -> None:
    module = started(Gated(width=16).build(SHAPES))
    given = {name: one.zero_() for name, one in maps().items()}
    assert not module(given).any()
    assert module.decide.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_the_asking_stream_hears_all_others_as_torchs_attention_has_it() -> None:
    module = started(CrossAttentionFusion(asking="image", width=16, heads=2).build(SHAPES))
    given = maps()
    asks = module.project["image"](given["image"].flatten(2).transpose(1, 2))
    keys = torch.cat([module.project[name](given[name]) for name in ("series", "vector")], dim=1)
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(
            torch.cat([module.ask.query.weight, module.ask.key_value.weight])
        )
        theirs.in_proj_bias.copy_(torch.cat([module.ask.query.bias, module.ask.key_value.bias]))
        theirs.out_proj.load_state_dict(module.ask.out.state_dict())
    keys = module.ask.other_norm(keys)
    heard, _ = theirs(module.ask.norm(asks), keys, keys)
    torch.testing.assert_close(module(given), (asks + heard).mean(1))


def test_towers_are_of_length_one_and_know_nothing_of_each_other() -> None:
    module = started(TwoTower(width=16).build(SHAPES))
    given = maps()
    towers = module(given)
    torch.testing.assert_close(towers.norm(dim=2), torch.ones(3, 3))
    other = module({**given, "series": torch.randn(3, 5, 8)})
    changed = [not torch.equal(towers[:, index], other[:, index]) for index in range(3)]
    assert changed == [False, True, False]


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_the_order_in_which_streams_are_given_does_not_matter(fusion: Any) -> None:
    module = started(fusion.build(SHAPES))
    given = maps()
    turned = dict(reversed(given.items()))
    torch.testing.assert_close(module(given), module(turned))


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        (Gated(), "at least two streams"),
        (TwoTower(), "at least two streams"),
        (CrossAttentionFusion(asking="image"), "at least two streams"),
        (Gated(detail="chanel"), "Did you mean 'channel'"),
        (Concatenate(pooling="last"), "only sequences have a last step"),
        (Concatenate(pooling="lats"), "Did you mean 'last'"),
    ],
    ids=str,
)
def test_a_fusion_refuses_what_it_cannot_join(fusion: Any, message: str) -> None:
    with pytest.raises(UnbuildableError, match=message):
        fusion.out_shape({"image": (12, 3, 4)})


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        (CrossAttentionFusion(asking="imgae"), "unknown stream 'imgae'.*Did you mean 'image'"),
        (CrossAttentionFusion(asking="image", heads=3), "heads must divide 64"),
        (Gated(width=0), "width must be at least 1"),
        (Gated(pooling="last"), "only sequences have a last step"),
    ],
    ids=str,
)
def test_a_fusion_refuses_impossible_options(fusion: Any, message: str) -> None:
    with pytest.raises(UnbuildableError, match=message):
        fusion.build(SHAPES)


STEPS = Stage(width=16, depth=1, reduction="none", normalisation="layer", block=Recurrent())
STREAMS = {
    "image": Stream(
        stem=ConvolutionStem(width=8),
        stages=(
            Stage(
                width=16,
                depth=1,
                block=Gate(convolution=Residual(), attention=Attention(heads=2), hard=True),
            ),
        ),
    ),
    "series": Stream(stem=SeriesStem(width=8), stages=(STEPS,)),
    "text": Stream(stem=TokenStem(vocabulary=20, width=8), stages=(STEPS,)),
    "sound": Stream(stem=SpectrogramStem(width=8), stages=(STEPS,)),
    "vector": Stream(stem=VectorStem(width=8, tokens=True), stages=(STEPS,)),
    "raw": Stream(stem=RawStem(), stages=(STEPS,)),
}
INPUTS: dict[str, Shape] = {
    "image": (3, 10, 12),
    "series": (9, 5),
    "text": (7,),
    "sound": (1, 16, 20),
    "vector": (6,),
    "raw": (4,),
}


def inputs(batch: int = 3) -> dict[str, torch.Tensor]:
    given = {name: torch.randn(batch, *shape) for name, shape in INPUTS.items()}
    return {**given, "text": torch.randint(20, (batch, 7))}


@pytest.mark.parametrize(
    "fusion",
    [Concatenate(), Gated(), CrossAttentionFusion(asking="text"), TwoTower()],
    ids=lambda one: one.kind,
)
@pytest.mark.parametrize(
    ("head", "num_classes", "num_values"),
    [(Classify(), 3, 0), (Regress(), 0, 2), (MultiTaskHead(), 3, 2)],
)
def test_a_network_of_every_modality_builds_answers_and_has_a_cost(
    fusion: Any, head: Any, num_classes: int, num_values: int
) -> None:
    whole = Architecture(streams=STREAMS, fusion=fusion, head=head)
    asked = Task(inputs=INPUTS, num_classes=num_classes, num_values=num_values)
    assert Architecture.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    network = whole.build(asked)
    output = network(inputs())
    assert output.logits_BK.numel() == 3 * num_classes
    assert output.values_BV.numel() == 3 * num_values
    assert [tower.shape for tower in output.towers] == [(3, 64)] * (
        6 if fusion.kind == "two_tower" else 0
    )
    counted = cost(whole, asked)
    assert counted.parameters == sum(one.numel() for one in network.parameters())
    assert counted.flops > 0


def test_two_towers_under_an_embedding_head_learn_which_image_goes_with_which_text() -> None:
    torch.manual_seed(0)
    streams = {name: STREAMS[name] for name in ("image", "text")}
    whole = Architecture(streams=streams, fusion=TwoTower(), head=ProjectionHead(width=16))
    shapes = {name: INPUTS[name] for name in streams}
    network = whole.build(Task(inputs=shapes, num_classes=0))
    pairs = {name: one for name, one in inputs(16).items() if name in streams}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(40):
        image_BD, text_BD = network(pairs).towers
        loss = functional.cross_entropy(image_BD @ text_BD.T * 10, torch.arange(16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    assert whole.describe() == "C8-CT16 + E8-R16 two_tower gate"


def test_auxiliary_scores_are_refused_where_nothing_is_classified() -> None:
    streams = {"series": STREAMS["series"]}
    whole = Architecture(streams=streams, fusion=Concatenate(), head=Regress())
    asked = Task(inputs={"series": (9, 5)}, num_classes=0, num_values=1)
    with pytest.raises(UnbuildableError, match=r"streams\.series: .*'auxiliary'"):
        whole.build(asked, auxiliary=True)
    both = Architecture(streams=streams, fusion=Concatenate(), head=MultiTaskHead())
    asked = Task(inputs={"series": (9, 5)}, num_classes=3, num_values=1)
    network = both.build(asked, auxiliary=True)
    assert network({"series": torch.randn(2, 9, 5)}).auxiliary[0].shape == (2, 3)


def test_gates_come_with_their_gradient_and_are_not_kept() -> None:
    streams = {"image": STREAMS["image"]}
    whole = Architecture(streams=streams, fusion=Concatenate(), head=Classify())
    network = whole.build(Task(inputs={"image": (3, 10, 12)}, num_classes=3))
    output = network({"image": torch.randn(2, 3, 10, 12)})
    (gate,) = output.gates
    assert gate.shape == (2, 16)
    assert ((gate > 0) & (gate < 1)).all()
    # The gate is hard: what leads is the soft value rounded.
    (value,) = gate_values(network).values()
    assert torch.equal(value, (gate > 0.5).float())
    gate.sum().backward()
    decide = network.streams["image"].stages[0][3].decide
    assert decide.weight.grad.any()
    copied = copy.deepcopy(network)
    assert len(copied({"image": torch.randn(2, 3, 10, 12)}).gates) == 1
    without = Architecture(
        streams={"series": STREAMS["series"]}, fusion=Concatenate(), head=Classify()
    )
    built = without.build(Task(inputs={"series": (9, 5)}, num_classes=3))
    assert built({"series": torch.randn(2, 9, 5)}).gates == ()
