"""Series and tokens use the same blocks as images: stems, stages, pooling."""

import json

import pytest
import torch
from torch import nn

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Block,
    Classify,
    Concatenate,
    ConvolutionStem,
    Gate,
    Recurrent,
    Residual,
    SegmentMemory,
    SeriesStem,
    Stage,
    TemporalConvolution,
    TokenStem,
    UnbuildableError,
)
from search_spaces.blocks.block import BLOCKS, piece_from_dict, piece_to_dict
from search_spaces.blocks.initialisation import initialize
from search_spaces.cost import cost
from search_spaces.task import Shape, Task

SHAPE = (12, 16)
BLOCKS_OF_STEPS: list[tuple[Block, int]] = [
    (Recurrent(), 4 * (2 * 16 * 16 + 2 * 16)),
    (Recurrent(cell="gru"), 3 * (2 * 16 * 16 + 2 * 16)),
    (TemporalConvolution(kernel=3, dilation=2), 2 * (16 * 16 * 3 + 16 + 32)),
    (
        SegmentMemory(segment=4, heads=2, mlp_ratio=1.0),
        2 * 32 + 6 * (16 * 16 + 16) + 2 * 8,
    ),
    (
        SegmentMemory(segment=5, heads=2, mlp_ratio=1.0),
        2 * 32 + 6 * (16 * 16 + 16) + 2 * 10,
    ),
    (
        Gate(convolution=TemporalConvolution(), attention=Attention(heads=2, mlp_ratio=1.0)),
        2 * (16 * 16 * 3 + 16 + 32)
        + (12 * 16 + 2 * 32 + 6 * (16 * 16 + 16))
        + (32 * 8 + 8)
        + (8 * 16 + 16),
    ),
]


def started(block: Block, shape: Shape = SHAPE) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(block.build(shape))
    initialize(network, "xavier")
    return network


@pytest.mark.parametrize(("block", "parameters"), BLOCKS_OF_STEPS, ids=str)
def test_a_block_of_steps_keeps_its_promises(block: Block, parameters: int) -> None:
    assert piece_from_dict(BLOCKS, json.loads(json.dumps(piece_to_dict(block)))) == block
    network = started(block)
    assert sum(p.numel() for p in network.parameters()) == parameters
    y = network(torch.randn(4, *SHAPE))
    assert y.shape == (4, *block.out_shape(SHAPE)) == (4, *SHAPE)


@pytest.mark.parametrize("block", [block for block, _ in BLOCKS_OF_STEPS[:5]], ids=str)
def test_no_step_knows_what_comes_after_it(block: Block) -> None:
    network = started(block).eval()
    x = torch.randn(2, *SHAPE)
    later = x.clone()
    later[:, 7:] += 1
    torch.testing.assert_close(network(later)[:, :7], network(x)[:, :7])
    assert not torch.allclose(network(later)[:, 7:], network(x)[:, 7:])


def test_an_lstm_equals_its_equations_written_out() -> None:
    network = started(Recurrent())
    cell = network[0].cell
    x = torch.randn(2, *SHAPE)
    state = memory = torch.zeros(2, 16)
    for step in range(12):
        gates = x[:, step] @ cell.weight_ih_l0.T + state @ cell.weight_hh_l0.T
        gates = gates + cell.bias_ih_l0 + cell.bias_hh_l0
        let_in, forget, new, out = gates.chunk(4, dim=1)
        memory = forget.sigmoid() * memory + let_in.sigmoid() * new.tanh()
        state = out.sigmoid() * memory.tanh()
    torch.testing.assert_close(network(x)[:, -1], state)
    assert cell.bias_ih_l0.chunk(4)[1].eq(1).all()
    kept = cell.weight_hh_l0[:16] @ cell.weight_hh_l0[:16].T
    torch.testing.assert_close(kept, torch.eye(16), atol=1e-5, rtol=0)


def test_a_temporal_convolution_sees_as_far_back_as_its_kernels_reach() -> None:
    network = started(TemporalConvolution(kernel=3, dilation=2))
    x = torch.randn(1, *SHAPE, requires_grad=True)
    network(x)[0, 11].square().sum().backward()
    assert (x.grad.abs().sum((0, 2)) > 0).tolist() == [i >= 3 and i % 2 == 1 for i in range(12)]


def test_segment_memory_recalls_one_segment_and_stops_the_gradient_there() -> None:
    network = started(SegmentMemory(segment=4, heads=2))
    x = torch.randn(1, *SHAPE, requires_grad=True)
    y = network(x)
    y[0, 9].square().sum().backward()
    assert (x.grad.abs().sum((0, 2)) > 0).tolist() == [i in (8, 9) for i in range(12)]
    for step, recalled in ((3, False), (4, True), (7, True)):
        other = x.detach().clone()
        other[0, step] *= -1
        assert torch.allclose(network(other)[0, 9], y[0, 9]) != recalled, step


def test_segment_memory_equals_attention_under_one_mask() -> None:
    module = started(SegmentMemory(segment=4, heads=2))[0]
    x = torch.randn(2, *SHAPE)
    normed = module.norm(x)
    steps = torch.arange(12)
    back = steps[:, None] - steps[None, :]
    seen = (back >= 0) & (steps[:, None] // 4 - steps[None, :] // 4 <= 1)
    query = module.query(normed)
    key, value = module.key_value(normed).split(16, dim=2)
    heard = []
    for head, part in enumerate((slice(0, 8), slice(8, 16))):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 8**0.5
        scores = scores + module.bias_HM[head][back.clamp(0, 7)]
        heard.append(scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value[..., part])
    expected = x + module.out(torch.cat(heard, dim=2))
    expected = expected + module.mlp(module.mlp_norm(expected))
    torch.testing.assert_close(module(x), expected)


def network_of(stem: Block, *stages: Stage, pooling: str = "average") -> Architecture:
    stream = Stream(stem=stem, stages=stages)
    fusion = Concatenate(pooling=pooling)
    return Architecture(streams={"x": stream}, fusion=fusion, head=Classify())


@pytest.mark.parametrize("reduction", ["none", "stride", "pool"])
@pytest.mark.parametrize(
    ("stem", "shape"),
    [(SeriesStem(width=8), (9, 3)), (TokenStem(vocabulary=20, width=8), (9,))],
    ids=["series", "tokens"],
)
def test_a_network_of_steps_gives_what_it_promises(
    reduction: str, stem: Block, shape: Shape
) -> None:
    stages = [
        Stage(width=16, depth=1, reduction=reduction, block=block) for block, _ in BLOCKS_OF_STEPS
    ]
    architecture = network_of(stem, *stages, pooling="last")
    task = Task(inputs={"x": shape}, num_classes=5)
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture
    x = torch.randint(20, (3, *shape)) if len(shape) == 1 else torch.randn(3, *shape)
    network = architecture.build(task, auxiliary=True)
    promised = architecture.walk(task)
    stream = network.streams["x"]
    assert stream(x)[0].shape == (3, *promised["streams.x.stages.5"])
    output = network({"x": x})
    assert output.logits_BK.shape == output.auxiliary[0].shape == (3, 5)
    counted = cost(architecture, task)
    assert counted.parameters == sum(
        p.numel() for n, p in network.named_parameters() if "auxiliary" not in n
    )
    assert counted.flops > 0


def test_the_last_step_is_what_a_plain_lstm_is_read_at() -> None:
    stage = Stage(width=8, depth=1, reduction="none", block=Recurrent())
    architecture = network_of(SeriesStem(width=8), stage, pooling="last")
    network = architecture.build(Task(inputs={"x": (6, 3)}, num_classes=2))
    x = torch.randn(2, 6, 3)
    output = network({"x": x})
    assert torch.equal(output.embedding_BD, network.streams["x"](x)[0][:, -1])


@pytest.mark.parametrize(
    ("architecture", "shape", "message"),
    [
        (network_of(SeriesStem()), (3, 8, 8), "needs a series"),
        (network_of(TokenStem(vocabulary=5)), (3, 8), r"sequence \(length,\) of tokens"),
        (network_of(ConvolutionStem(), pooling="last"), (3, 8, 8), "only sequences have a last"),
        (network_of(SeriesStem(), Stage(width=8, depth=1, block=Residual())), (9, 3), "a map"),
        (
            network_of(ConvolutionStem(), Stage(width=8, depth=1, block=Recurrent())),
            (3, 8, 8),
            "recurrent needs a sequence",
        ),
        (
            network_of(SeriesStem(), Stage(width=8, depth=1, block=Recurrent(cell="lstn"))),
            (9, 3),
            "Did you mean 'lstm'",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_says_why(architecture: Architecture, shape: Shape, message: str) -> None:
    with pytest.raises(UnbuildableError, match=message):
        architecture.build(Task(inputs={"x": shape}, num_classes=2))
