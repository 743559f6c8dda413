"""Blocks made of blocks mix any inner blocks as they declare."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces.blocks import (
    Attention,
    Block,
    Chain,
    ConvolutionStem,
    Gate,
    MBConv,
    Parallel,
    Residual,
    UnbuildableError,
)
from search_spaces.blocks.block import BLOCKS, piece_from_dict, piece_to_dict
from search_spaces.blocks.gate import gate_values
from search_spaces.blocks.hybrid import CrossAttention
from search_spaces.blocks.initialisation import initialize

SHAPE = (16, 4, 4)
TEXTURE, LAYOUT = Residual(), Attention(heads=2, mlp_ratio=1.0)
MAXVIT = Chain(
    blocks=(
        MBConv(squeeze=True),
        Attention(scope="window", window=2, positions="relative"),
        Attention(scope="grid", window=2, positions="relative"),
    )
)
BLENDS: list[Block] = [
    MAXVIT,
    Parallel(first=TEXTURE, second=LAYOUT, mix="sum"),
    Parallel(first=TEXTURE, second=LAYOUT, mix="concatenate"),
    Parallel(first=TEXTURE, second=LAYOUT, mix="cross_attention"),
    Gate(convolution=TEXTURE, attention=MAXVIT, detail="scalar"),
    Gate(convolution=TEXTURE, attention=LAYOUT, detail="token"),
    Gate(convolution=TEXTURE, attention=LAYOUT, hard=True),
    Gate(convolution=TEXTURE, attention=LAYOUT, detail="token", hard=True),
]


def started(block: Block) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(block.build(SHAPE))
    initialize(network, "he")
    return network


@pytest.mark.parametrize("block", BLENDS, ids=lambda block: block.kind)
def test_a_blend_keeps_the_shape_and_its_data(block: Block) -> None:
    assert piece_from_dict(BLOCKS, json.loads(json.dumps(piece_to_dict(block)))) == block
    y = started(block)(torch.randn(8, *SHAPE))
    assert y.shape == (8, *block.out_shape(SHAPE)) == (8, *SHAPE)


def test_a_chain_is_its_blocks_in_order() -> None:
    network = started(MAXVIT).eval()
    x = expected = torch.randn(2, *SHAPE)
    for block in network[0]:
        expected = block(expected)
    assert torch.equal(network(x), expected)
    assert MAXVIT.symbol == "MTT"


def test_a_sum_is_half_of_each_branch() -> None:
    mixed = started(BLENDS[1]).eval()[0]
    x = torch.randn(2, *SHAPE)
    torch.testing.assert_close(mixed(x), (mixed.first(x) + mixed.second(x)) / 2)


def test_a_concatenation_is_a_projection_of_both_branches() -> None:
    mixed = started(BLENDS[2]).eval()[0]
    x = torch.randn(2, *SHAPE)
    both = torch.cat([mixed.first(x), mixed.second(x)], dim=1)
    weight = mixed.mix.project.weight[:, :, None, None]
    torch.testing.assert_close(mixed(x), functional.conv2d(both, weight))


def test_cross_attention_equals_torchs_with_other_keys_and_values() -> None:
    torch.manual_seed(0)
    ours = CrossAttention(16, heads=4)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    tokens, others = torch.randn(2, 7, 16), torch.randn(2, 5, 16)
    other = ours.other_norm(others)
    expected, _ = theirs(ours.norm(tokens), other, other)
    torch.testing.assert_close(ours(tokens, others), tokens + expected)


@pytest.mark.parametrize(("detail", "numbers"), [("channel", 16), ("scalar", 1), ("token", 16)])
@pytest.mark.parametrize("hard", [False, True])
def test_a_gate_has_as_many_numbers_as_it_promises(detail: str, numbers: int, hard: bool) -> None:
    network = started(Gate(convolution=TEXTURE, attention=LAYOUT, detail=detail, hard=hard)).eval()
    x = torch.randn(3, *SHAPE)
    mixed = network(x)
    gate = gate_values(network)["0"]
    assert gate.shape == (3, numbers)
    assert set(gate.unique().tolist()) <= {0.0, 1.0} if hard else ((gate > 0) & (gate < 1)).all()
    spread = gate.reshape(3, 1, 4, 4) if detail == "token" else gate[:, :, None, None]
    texture, layout = network[0].convolution(x), network[0].attention(x)
    torch.testing.assert_close(mixed, spread * texture + (1 - spread) * layout)


def test_a_hard_gate_learns_as_if_it_were_soft() -> None:
    soft, hard = (
        started(Gate(convolution=TEXTURE, attention=LAYOUT, hard=hard)) for hard in (False, True)
    )
    x = torch.randn(4, *SHAPE)
    for network in (soft, hard):
        network(x).sum().backward()
    torch.testing.assert_close(hard[0].decide.weight.grad, soft[0].decide.weight.grad)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Chain(blocks=()), "at least one block"),
        (Parallel(first=TEXTURE, second=LAYOUT, mix="som"), "Did you mean 'sum'"),
        (Parallel(first=TEXTURE, second=ConvolutionStem(width=3)), "must keep"),
        (
            Parallel(first=TEXTURE, second=LAYOUT, mix="cross_attention", heads=3),
            "heads must divide 16",
        ),
        (Gate(convolution=TEXTURE, attention=LAYOUT, detail="tokn"), "Did you mean 'token'"),
    ],
    ids=str,
)
def test_what_cannot_be_built_says_why(block: Block, message: str) -> None:
    with pytest.raises(UnbuildableError, match=message):
        block.build(SHAPE)
