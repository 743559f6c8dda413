"""Blocks have the shapes that they declare, and equal their sources."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from search_spaces.blocks import (
    Attention,
    Block,
    Chain,
    ConformerConvolution,
    ConvNeXt,
    ConvolutionStem,
    FeedForward,
    Gate,
    MBConv,
    Parallel,
    PatchStem,
    Residual,
    SpectrogramStem,
    Stage,
    UnbuildableError,
    register_block,
)
from search_spaces.blocks.attention import SelfAttention
from search_spaces.blocks.block import BLOCKS, STEMS, piece_from_dict, piece_to_dict
from search_spaces.blocks.convolution import SqueezeExcite
from search_spaces.blocks.drop_path import DropPath
from search_spaces.blocks.gate import GatedMix, gate_values
from search_spaces.blocks.heads import AuxiliaryHead, pool
from search_spaces.blocks.initialisation import initialize
from search_spaces.blocks.normalisation import NORMALIZATIONS, normalisation
from search_spaces.plugins import DuplicateNameError
from search_spaces.task import Shape

# With each: its parameters for 16 channels on a 6 by 5 map, counted by hand.
EXAMPLES: list[tuple[Block, int]] = [
    (Residual(), 2 * (16 * 16 * 9) + 2 * 32),
    (Residual(kernel=5, normalisation="group", activation="silu"), 2 * (16 * 16 * 25) + 2 * 32),
    (MBConv(expansion=2), 2 * (16 * 32) + 32 * 9 + 2 * 64 + 32),
    (
        MBConv(expansion=4, squeeze=True, kernel=5, normalisation="layer"),
        2 * (16 * 64) + 64 * 25 + 2 * 128 + 32 + (64 * 8 + 8) + (8 * 64 + 64),
    ),
    (ConvNeXt(), (16 * 49 + 16) + 32 + (16 * 64 + 64) + (64 * 16 + 16)),
    (
        Attention(heads=4, mlp_ratio=2.0),
        30 * 16 + 2 * 32 + 4 * (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16),
    ),
    (
        Gate(convolution=Residual(), attention=Attention(heads=2, mlp_ratio=1.0)),
        (2 * (16 * 16 * 9) + 2 * 32)
        + (30 * 16 + 2 * 32 + 6 * (16 * 16 + 16))
        + (32 * 8 + 8)
        + (8 * 16 + 16),
    ),
    (Chain(blocks=(ConvNeXt(), Residual())), 2 * (16 * 16 * 9) + 64 + 16 * 185),
    (
        Parallel(first=ConvNeXt(), second=Residual(), mix="concatenate"),
        2 * (16 * 16 * 9) + 64 + 16 * 185 + (32 * 16 + 16),
    ),
    (FeedForward(), 32 + (16 * 32 + 32) + (32 * 16 + 16)),
    (ConformerConvolution(kernel=3), 32 + (16 * 32 + 32) + 16 * 9 + 32 + (16 * 16 + 16)),
]
STEM_EXAMPLES: list[tuple[Block, Shape]] = [
    (ConvolutionStem(width=8), (8, 28, 28)),
    (ConvolutionStem(width=8, kernel=5, reduction="stride", normalisation="layer"), (8, 14, 14)),
    (ConvolutionStem(width=8, reduction="pool", activation="gelu"), (8, 14, 14)),
    (PatchStem(width=8, patch=4), (8, 7, 7)),
    (PatchStem(width=8, patch=5, normalisation="batch"), (8, 5, 5)),
    (ConvolutionStem(width=8, reduction="stride", normalisation="none", depth=2), (8, 14, 14)),
    (SpectrogramStem(width=8), (7, 8)),
]
SHAPE = (16, 6, 5)


def kind(example: object) -> str:
    return getattr(example, "kind", "")


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_block_of_ours_has_an_example_here() -> None:
    ours = {name for name in BLOCKS if BLOCKS[name].__module__.startswith("search_spaces.")}
    # Blocks and stems of sequences have theirs among the tests of sequences.
    of_steps = {"recurrent", "temporal", "segment_memory"}
    assert {block.kind for block, _ in EXAMPLES} == ours - of_steps
    assert {stem.kind for stem, _ in STEM_EXAMPLES} == set(STEMS) - {
        "series",
        "tokens",
        "vector",
        "raw",
    }


@pytest.mark.parametrize(("block", "parameters"), EXAMPLES, ids=kind)
def test_a_block_gives_the_shape_it_promises(block: Block, parameters: int) -> None:
    module = block.build(SHAPE)
    x_BCHW = torch.randn(3, *SHAPE)
    assert module(x_BCHW).shape == (3, *block.out_shape(SHAPE))
    assert num_parameters(module) == parameters


@pytest.mark.parametrize(("stem", "shape"), STEM_EXAMPLES, ids=kind)
def test_a_stem_gives_the_shape_it_promises(stem: Block, shape: Shape) -> None:
    assert stem.out_shape((1, 28, 28)) == shape
    assert stem.build((1, 28, 28))(torch.randn(3, 1, 28, 28)).shape == (3, *shape)


@pytest.mark.parametrize("piece", [one for one, _ in EXAMPLES + STEM_EXAMPLES], ids=kind)
def test_a_piece_survives_the_round_trip_through_plain_data(piece: Block) -> None:
    registry = STEMS if piece.kind in STEMS else BLOCKS
    assert piece_from_dict(registry, piece_to_dict(piece)) == piece


@pytest.mark.parametrize("piece", [one for one, _ in EXAMPLES], ids=kind)
def test_memory_layout_does_not_change_what_comes_out(piece: Block) -> None:
    torch.manual_seed(0)
    module = piece.build(SHAPE).eval()
    x_BCHW = torch.randn(2, *SHAPE)
    last = module(x_BCHW.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, module(x_BCHW), rtol=1e-4, atol=1e-5)


def test_attention_equals_torchs_multi_head_attention() -> None:
    torch.manual_seed(0)
    ours = SelfAttention(16, heads=4)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    tokens_BNC = torch.randn(2, 7, 16)
    expected, _ = theirs(tokens_BNC, tokens_BNC, tokens_BNC)
    torch.testing.assert_close(ours(tokens_BNC), expected)


def test_attention_equals_softmax_written_out() -> None:
    torch.manual_seed(0)
    module = Attention(heads=2, mlp_ratio=1.5).build((8, 3, 4))
    x_BCHW = torch.randn(2, 8, 3, 4)
    tokens = x_BCHW.flatten(2).transpose(1, 2)
    normed = module.attention_norm(tokens) + module.position_NC
    query, key, value = module.attention.qkv(normed).split(8, dim=2)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[..., head] @ key[..., head].transpose(1, 2) / math.sqrt(4)
        heads.append(scores.softmax(-1) @ value[..., head])
    tokens = tokens + module.attention.out(torch.cat(heads, dim=2))
    tokens = tokens + module.mlp(module.mlp_norm(tokens))
    expected = tokens.transpose(1, 2).reshape(2, 8, 3, 4)
    torch.testing.assert_close(module(x_BCHW), expected)


def test_attention_knows_where_its_tokens_lie() -> None:
    torch.manual_seed(0)
    module = Attention(heads=2).build((8, 3, 3))
    x_BCHW = torch.randn(1, 8, 3, 3)
    turned = module(x_BCHW.flip(3)).flip(3)
    assert not torch.allclose(turned, module(x_BCHW))
    with torch.no_grad():
        module.position_NC.zero_()
    torch.testing.assert_close(module(x_BCHW.flip(3)).flip(3), module(x_BCHW))


def test_a_residual_block_is_its_convolutions_plus_its_input() -> None:
    torch.manual_seed(0)
    module = Residual().build((4, 5, 5)).eval()
    x = torch.randn(2, 4, 5, 5)
    first, _, _, second, _ = module.branch
    # Fresh batch statistics divide by the square root of 1 + eps.
    shrink = 1 / math.sqrt(1 + 1e-5)
    branch = second((first(x) * shrink).relu()) * shrink
    torch.testing.assert_close(module(x), (x + branch).relu())


def test_squeeze_excite_scales_by_what_the_averages_say() -> None:
    torch.manual_seed(0)
    module = SqueezeExcite(4)
    x = torch.randn(2, 4, 3, 3)
    narrow, _, wide, _ = module.weigh
    hidden = (x.mean((2, 3)) @ narrow.weight.flatten(1).T + narrow.bias).relu()
    scale = (hidden @ wide.weight.flatten(1).T + wide.bias).sigmoid()
    torch.testing.assert_close(module(x), x * scale[:, :, None, None])


class Constant(nn.Module):
    """Gives the same map whatever goes in."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


def test_the_gate_is_a_convex_mix_of_its_branches() -> None:
    torch.manual_seed(0)
    mix = GatedMix(Constant(2.0), Constant(-1.0), channels=8)
    mixed = mix(torch.randn(3, 8, 4, 4))
    gate = mix.last_gate_BG
    assert gate is not None
    assert gate.shape == (3, 8)
    assert ((gate > 0) & (gate < 1)).all()
    torch.testing.assert_close(mixed, (2 * gate - (1 - gate))[:, :, None, None].expand_as(mixed))


def test_the_gate_sees_both_branches_and_differs_by_input_and_channel() -> None:
    torch.manual_seed(0)
    block = Gate(convolution=Residual(), attention=Attention(heads=2))
    network = nn.Sequential(block.build((8, 4, 4)))
    initialize(network, "he")
    assert gate_values(network) == {}
    network.eval()
    x = torch.randn(2, 8, 4, 4)
    network(x)
    before = gate_values(network)["0"]
    assert (before - 0.5).abs().max() < 0.3
    assert before.std(0).min() > 0
    assert before.std(1).min() > 0
    for branch in (network[0].convolution.branch[3], network[0].attention.mlp[2]):
        with torch.no_grad():
            branch.weight.mul_(2)
        network(x)
        now = gate_values(network)["0"]
        assert not torch.equal(now, before)
        before = now


def test_a_gate_refuses_a_branch_that_changes_the_shape() -> None:
    gate = Gate(convolution=ConvolutionStem(width=3), attention=Attention())
    with pytest.raises(UnbuildableError, match=r"branch 'convolution' must keep \(8, 4, 4\)"):
        gate.out_shape((8, 4, 4))


def test_drop_path_keeps_the_expectation_and_drops_whole_examples() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    dropped = drop(torch.ones(4000, 2, 3))
    per_example = dropped.flatten(1)
    assert per_example.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (per_example == per_example[:, :1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    ones = torch.ones(5, 2)
    assert drop.eval()(ones) is ones


def test_an_impossible_drop_path_is_refused() -> None:
    with pytest.raises(UnbuildableError, match="drop_path must be"):
        Residual(drop_path=1.0).build(SHAPE)


@pytest.mark.parametrize("name", sorted(set(NORMALIZATIONS) - {"rms", "none"}))
def test_normalisation_gives_zero_mean_and_unit_variance_over_its_set(name: str) -> None:
    torch.manual_seed(0)
    y = normalisation(name, 16)(torch.randn(5, 16, 3, 3) * 4 + 2)
    grouped = {
        "batch": y.transpose(0, 1).flatten(1),
        "group": y.reshape(40, -1),
        "layer": y.permute(0, 2, 3, 1).flatten(0, 2),
    }[name]
    torch.testing.assert_close(grouped.mean(1), torch.zeros(len(grouped)), atol=1e-5, rtol=0)
    variance = grouped.var(1, unbiased=False)
    torch.testing.assert_close(variance, torch.ones(len(grouped)), atol=1e-3, rtol=0)


def test_rms_normalisation_divides_each_position_by_its_root_mean_square() -> None:
    x_BCHW = torch.randn(2, 16, 3, 3) * 4 + 2
    expected = x_BCHW / x_BCHW.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(normalisation("rms", 16)(x_BCHW), expected)


def test_group_normalisation_takes_fewer_groups_where_channels_do_not_divide() -> None:
    assert normalisation("group", 12)(torch.randn(1, 12, 2, 2)).shape == (1, 12, 2, 2)


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (Residual(normalisation="bach"), "unknown normalisation 'bach'.*Did you mean 'batch'"),
        (Residual(activation="rellu"), "unknown activation 'rellu'.*Did you mean 'relu'"),
        (Residual(kernel=4), "kernel must be odd, not 4"),
        (Attention(heads=3), "heads must divide 16 channels, not 3"),
        (Stage(width=16, depth=-1, block=Residual()), "depth must not be negative"),
        (Stage(width=8, depth=1, reduction="pol", block=Residual()), "Did you mean 'pool'"),
        (Stage(width=0, depth=0, block=Residual()), "width must be at least 1"),
        (Stage(width=8, depth=0, kernel=2, block=Residual()), "kernel must be odd"),
        (PatchStem(patch=0), "patch must be at least 1"),
    ],
    ids=str,
)
def test_what_cannot_be_built_says_why(piece: Block, message: str) -> None:
    with pytest.raises(UnbuildableError, match=message):
        piece.build(SHAPE)


def test_a_block_refuses_what_is_no_map() -> None:
    with pytest.raises(UnbuildableError, match=r"residual needs a map .*not \(5,\)"):
        Residual().out_shape((5,))


@pytest.mark.parametrize("reduction", ["stride", "pool"])
@pytest.mark.parametrize(("side", "expected"), [(28, 14), (7, 4), (5, 3), (4, 4), (2, 2), (1, 1)])
def test_a_stage_halves_maps_rounding_up_and_leaves_small_ones(
    reduction: str, side: int, expected: int
) -> None:
    stage = Stage(width=8, depth=1, reduction=reduction, block=Residual())
    assert stage.out_shape((4, side, side)) == (8, expected, expected)
    assert stage.build((4, side, side))(torch.randn(2, 4, side, side)).shape[2:] == (
        expected,
        expected,
    )


def test_a_stage_that_changes_nothing_holds_its_blocks_alone() -> None:
    stage = Stage(width=16, depth=2, reduction="none", block=Residual())
    assert len(stage.build(SHAPE)) == 2


def test_each_repetition_has_weights_of_its_own() -> None:
    twice = Stage(width=16, depth=2, reduction="none", block=Residual()).build(SHAPE)
    assert num_parameters(twice) == 2 * EXAMPLES[0][1]


def test_a_patch_stem_cuts_small_images_finer() -> None:
    assert PatchStem(width=8, patch=4).out_shape((1, 8, 8)) == (8, 4, 4)


@pytest.mark.parametrize(("name", "std"), [("he", math.sqrt(2 / 90)), ("truncated_normal", 0.0176)])
def test_initialisation_sets_the_deviation_its_source_names(name: str, std: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(10, 200, 3), nn.Flatten(), nn.Linear(90, 200))
    initialize(network, name)
    for layer in (network[0], network[2]):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
        assert not layer.bias.any()


def test_xavier_looks_both_ways_and_counts_a_depthwise_convolution_by_its_group() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(90, 200), nn.Conv2d(400, 400, 5, groups=400))
    initialize(network, "xavier")
    assert network[0].weight.std().item() == pytest.approx(math.sqrt(2 / 290), rel=0.05)
    assert network[1].weight.std().item() == pytest.approx(math.sqrt(2 / 50), rel=0.05)


def test_an_unknown_initialisation_is_refused() -> None:
    with pytest.raises(UnbuildableError, match="Did you mean 'he'"):
        initialize(nn.Linear(1, 1), "hee")


def test_pooling_takes_the_average_or_the_maximum() -> None:
    x = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert pool(x, "average").tolist() == [[1.5, 5.5]]
    assert pool(x, "maximum").tolist() == [[3.0, 7.0]]


def test_an_auxiliary_head_scores_a_map() -> None:
    assert AuxiliaryHead(16, 10)(torch.randn(2, *SHAPE)).shape == (2, 10)


def test_a_users_block_joins_by_its_decorator() -> None:
    @register_block
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Blur:
        kind: ClassVar[str] = "blur_of_a_test"
        size: int

        def out_shape(self, shape: Shape) -> Shape:
            return shape

        def build(self, shape: Shape) -> nn.Module:
            return nn.AvgPool2d(self.size, stride=1, padding=self.size // 2)

    gate = Gate(convolution=Blur(size=3), attention=Attention())
    assert gate.build(SHAPE)(torch.randn(2, *SHAPE)).shape == (2, *SHAPE)
    assert piece_from_dict(BLOCKS, piece_to_dict(gate)) == gate
    assert gate.symbol == "blur_of_a_testT"
    with pytest.raises(DuplicateNameError, match="'blur_of_a_test' exists"):
        register_block(Blur)


def test_what_is_no_dataclass_with_a_kind_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match="must be a dataclass"):
        register_block(nn.Linear)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "residul"}, "unknown block 'residul'.*Did you mean 'residual'"),
        ({}, "unknown block 'None'"),
        ({"kind": "residual", "kernle": 3}, "residual: no field 'kernle'. Did you mean 'kernel'"),
        ({"kind": "gate"}, "gate: the field 'convolution' is missing"),
    ],
)
def test_malformed_data_says_what_is_wrong(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        piece_from_dict(BLOCKS, data)


def test_a_block_with_a_method_under_its_former_name_is_refused_with_the_new_one() -> None:
    @dataclass(frozen=True)
    class Shrinking:
        kind = "shrinking"

        def enter(self, shape: Shape) -> Shape:
            return shape

    with pytest.raises(TypeError, match="Shrinking: rename its method 'enter' to 'downsample'"):
        register_block(Shrinking)
