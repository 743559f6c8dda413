"""Every form of attention equals its definition, and attends only to visible tokens."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks import Attention, ConvNeXt, UnbuildableError
from search_spaces.blocks.block import BLOCKS, piece_from_dict, piece_to_dict
from search_spaces.blocks.initialisation import initialize
from search_spaces.blocks.positions import RelativeBias, Rotary
from search_spaces.blocks.self_attention import LinearAttention, SelfAttention
from search_spaces.blocks.windows import Groups
from search_spaces.task import Shape

MAP = (16, 6, 5)
SEQUENCE = (9, 16)
FORMS = [
    Attention(positions="none"),
    Attention(positions="relative", normalisation="rms"),
    Attention(positions="rotary", layer_scale=0.1),
    Attention(positions="relative", scope="window", window=4),
    Attention(positions="rotary", scope="shifted", window=3),
    Attention(scope="shifted", window=4, positions="none"),
    Attention(positions="relative", scope="grid", window=4),
    Attention(form="linear"),
]
CONVOLVED = Attention(form="convolution", positions="none", stride=2)


def around(spec: Attention, shape: Shape) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(spec.build(shape))
    initialize(module, "he")
    return module


@pytest.mark.parametrize("shape", [MAP, SEQUENCE, (16, 1, 1), (1, 16)], ids=str)
@pytest.mark.parametrize("spec", FORMS, ids=str)
def test_the_shape_stays(spec: Attention, shape: Shape) -> None:
    assert around(spec, shape)(torch.randn(3, *shape)).shape == (3, *spec.out_shape(shape))


@pytest.mark.parametrize("spec", [*FORMS, CONVOLVED, ConvNeXt(layer_scale=1e-6)], ids=str)
def test_plain_data_says_what_was_chosen_and_leads_back(spec: Attention) -> None:
    assert piece_from_dict(BLOCKS, json.loads(json.dumps(piece_to_dict(spec)))) == spec


def test_what_was_written_before_there_was_a_choice_reads_and_writes_as_ever() -> None:
    written = {
        "kind": "attention",
        "heads": 4,
        "mlp_ratio": 2.0,
        "activation": "gelu",
        "drop_path": 0.0,
    }
    assert piece_to_dict(Attention()) == written
    assert piece_from_dict(BLOCKS, written) == Attention()
    assert "layer_scale" not in piece_to_dict(ConvNeXt())


def seen_by(spec: Attention, place: tuple[int, int], side: int = 8) -> Tensor:
    """Which places of a map change what comes out at one place."""
    module = around(spec, (8, side, side))
    x = torch.randn(1, 8, side, side, requires_grad=True)
    module(x)[0, :, *place].square().sum().backward()
    seen: Tensor = x.grad.abs().sum((0, 1)) > 0
    return seen


@pytest.mark.parametrize("place", [(0, 0), (3, 5), (7, 7)])
def test_a_token_attends_to_its_window(place: tuple[int, int]) -> None:
    seen = seen_by(Attention(scope="window", window=4, positions="relative"), place)
    row, column = (4 * (index // 4) for index in place)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[row : row + 4, column : column + 4] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [
        ((3, 3), (2, 6), (2, 6)),
        ((0, 0), (0, 2), (0, 2)),
        ((7, 7), (6, 8), (6, 8)),
        ((0, 4), (0, 2), (2, 6)),
    ],
)
def test_a_shifted_window_ends_at_the_maps_edge(
    place: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    seen = seen_by(Attention(scope="shifted", window=4, positions="none"), place)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[slice(*rows), slice(*columns)] = True
    assert torch.equal(seen, expected)


def test_a_grid_reaches_over_the_whole_map() -> None:
    seen = seen_by(Attention(scope="grid", window=4, positions="relative"), (1, 2))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[1::2, 0::2] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("scope", ["window", "shifted", "grid"])
def test_groups_put_the_map_together_again_and_padding_is_not_seen(scope: str) -> None:
    groups = Groups(scope, 4, 7, 5)
    x_BHWC = torch.randn(2, 7, 5, 3)
    torch.testing.assert_close(groups.join(groups.cut(x_BHWC)), x_BHWC)
    assert groups.mask_GNN is not None
    real = groups.cut(torch.ones(1, 7, 5, 1)).squeeze(2).bool()
    across = groups.mask_GNN & (real[:, :, None] != real[:, None, :])
    assert not across.any()


@pytest.mark.parametrize("scope", ["window", "shifted", "grid"])
def test_a_window_as_large_as_the_map_is_attention_to_all(scope: str) -> None:
    spec = Attention(scope=scope, window=9, positions="relative")
    grouped, whole = around(spec, MAP), around(replace(spec, scope="all"), MAP)
    whole.load_state_dict(grouped.state_dict())
    x = torch.randn(2, *MAP)
    torch.testing.assert_close(grouped(x), whole(x))


def test_relative_bias_depends_on_the_distance_alone() -> None:
    bias = RelativeBias(2, 3, 4)
    places = [(row, column) for row in range(3) for column in range(4)]
    by_distance: dict[tuple[int, int], Tensor] = {}
    scores = bias()
    for one, (row, column) in enumerate(places):
        for other, (down, right) in enumerate(places):
            found = by_distance.setdefault((row - down, column - right), scores[:, one, other])
            assert torch.equal(found, scores[:, one, other])
    assert len(by_distance) == len({tuple(each.tolist()) for each in by_distance.values()}) == 35


def test_relative_attention_equals_softmax_written_out() -> None:
    torch.manual_seed(0)
    module = SelfAttention(8, heads=2, bias=RelativeBias(2, 2, 3))
    tokens = torch.randn(2, 6, 8)
    query, key, value = module.qkv(tokens).split(8, dim=2)
    mixed = []
    for head, bias in enumerate(module.bias()):
        part = slice(4 * head, 4 * head + 4)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 2 + bias
        mixed.append(scores.softmax(-1) @ value[..., part])
    torch.testing.assert_close(module(tokens), module.out(torch.cat(mixed, dim=2)))


@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 12)])
def test_rotary_products_depend_on_the_distance_alone(height: int, width: int) -> None:
    torch.manual_seed(0)
    rotary = Rotary(8, height, width)
    query, key = (torch.randn(8).expand(1, 1, height * width, 8) for _ in range(2))
    scores = (rotary(query) @ rotary(key).transpose(2, 3))[0, 0].unflatten(0, (height, width))
    scores = scores.unflatten(2, (height, width))
    last = (height > 1, 1)
    for row, column in ((0, 0), (0, 2)):
        there = scores[row, column, row + last[0], column + last[1]]
        torch.testing.assert_close(there, scores[0, 0, int(last[0]), 1])
    torch.testing.assert_close(rotary(query).norm(dim=-1), query.norm(dim=-1))
    assert not torch.allclose(scores[0, 0, 0, 1], scores[0, 0, 0, 2])


def test_rotary_turns_a_pair_by_its_place() -> None:
    turned = Rotary(2, 1, 4)(torch.tensor([1.0, 0.0]).expand(1, 1, 4, 2))[0, 0]
    angles = torch.arange(4.0)
    torch.testing.assert_close(turned, torch.stack([angles.cos(), angles.sin()], dim=1))


@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 2**32),
    std=st.sampled_from([1.0, 8.0, 40.0]),
    low=st.sampled_from([None, torch.bfloat16]),
)
def test_linear_attention_stays_finite_however_large_its_queries(
    seed: int, std: float, low: torch.dtype | None
) -> None:
    torch.manual_seed(seed)
    attention = LinearAttention(16, 8)
    nn.init.normal_(attention.qkv.weight, std=std / 16**0.5)
    tokens = torch.randn(8, 16, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=low or torch.bfloat16, enabled=low is not None):
        mixed = attention(tokens)
    mixed.float().square().mean().backward()
    assert mixed.isfinite().all()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()


def test_linear_attention_equals_its_weights_written_out() -> None:
    torch.manual_seed(0)
    module = LinearAttention(8, heads=2)
    tokens = torch.randn(2, 6, 8)
    query, key, value = module.qkv(tokens).split(8, dim=2)
    mixed = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = (functional.elu(query[..., part]) + 1) @ (
            functional.elu(key[..., part]) + 1
        ).transpose(1, 2)
        mixed.append(weights / weights.sum(-1, keepdim=True) @ value[..., part])
    torch.testing.assert_close(module(tokens), module.out(torch.cat(mixed, dim=2)))


def test_layer_scale_sets_how_much_a_branch_counts_at_the_start() -> None:
    x = torch.randn(2, *MAP)
    whole, none = (
        around(Attention(positions="none", layer_scale=s), MAP)(x) - x for s in (1.0, 1e-6)
    )
    assert none.abs().max() < 1e-4 < whole.abs().max()
    module = around(ConvNeXt(layer_scale=1e-6), MAP)
    torch.testing.assert_close(module(x), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Attention(positions="rotery"), "unknown positions 'rotery'.*Did you mean 'rotary'"),
        (Attention(scope="windows"), "Did you mean 'window'"),
        (Attention(form="soft"), "unknown form 'soft'"),
        (Attention(normalisation="batch"), "Known: layer, rms"),
        (Attention(window=0), "must be at least 1"),
        (Attention(layer_scale=-1.0), "must not be negative"),
        (Attention(form="linear", scope="grid"), "'linear' needs the scope 'all'"),
        (Attention(form="convolution", positions="rotary"), "'convolution' needs the scope 'all'"),
        (Attention(heads=8, positions="rotary"), "multiple of 4 channels a head, not 2"),
    ],
    ids=str,
)
def test_what_cannot_be_built_says_why(spec: Attention, message: str) -> None:
    with pytest.raises(UnbuildableError, match=message):
        spec.build(MAP)


def test_a_sequence_has_no_places_to_convolve() -> None:
    with pytest.raises(UnbuildableError, match="needs a map, not a sequence"):
        CONVOLVED.build(SEQUENCE)
