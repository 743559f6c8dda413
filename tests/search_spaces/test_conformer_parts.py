"""MLP blocks, the Conformer's convolution, and sinusoidal relative positions."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks import (
    Attention,
    ConformerConvolution,
    FeedForward,
    SegmentMemory,
    SpectrogramStem,
    Stage,
    UnbuildableError,
    VectorStem,
)
from search_spaces.blocks.initialisation import initialize
from search_spaces.blocks.positions import SinusoidalDistance


def started(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    whole = nn.Sequential(module)
    initialize(whole, "xavier")
    return whole[0]


def linear(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.linear(x, convolution.weight.flatten(1), convolution.bias)


@pytest.mark.parametrize("shape", [(8, 3, 4), (5, 8)], ids=["map", "sequence"])
def test_a_dense_block_is_two_linear_maps_around_a_shortcut(shape: tuple[int, ...]) -> None:
    module = started(FeedForward(mlp_ratio=3.0, activation="silu", share=0.5).build(shape))
    x = torch.randn(2, *shape)
    tokens = x.flatten(2).transpose(1, 2) if len(shape) == 3 else x
    _, widen, _, _, narrow = module.branch
    inside = functional.silu(linear(widen, functional.layer_norm(tokens, (8,))))
    expected = tokens + 0.5 * linear(narrow, inside)
    y = module(x)
    torch.testing.assert_close(y.flatten(2).transpose(1, 2) if len(shape) == 3 else y, expected)


def test_a_conformers_convolution_is_the_one_of_its_paper() -> None:
    module = started(ConformerConvolution(kernel=5).build((7, 8))).eval()
    x = torch.randn(2, 7, 8)
    norm, widen, _, depthwise, batch, _, narrow = module.branch
    one, other = linear(widen, functional.layer_norm(x, (8,))).chunk(2, dim=2)
    gated = (one * other.sigmoid()).transpose(1, 2)
    seen = functional.conv1d(gated, depthwise.weight[:, :, 0], padding=2, groups=8)
    seen = seen / math.sqrt(1 + batch.eps)
    expected = x + linear(narrow, functional.silu(seen).transpose(1, 2))
    torch.testing.assert_close(module(x), expected)
    assert norm.weight.shape == (8,)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (FeedForward(mlp_ratio=0.0), "above 0"),
        (FeedForward(dropout=1.0), "dropout"),
        (FeedForward(normalisation="lyaer"), "Did you mean 'layer'"),
        (ConformerConvolution(kernel=4), "kernel must be odd"),
        (Attention(positions="sinusoidal"), "need a sequence"),
        (SegmentMemory(positions="relative"), "unknown positions"),
    ],
    ids=str,
)
def test_what_cannot_be_built_says_why(block: FeedForward, message: str) -> None:
    shape = (8, 3, 4) if block.kind == "attention" else (6, 8)
    with pytest.raises(UnbuildableError, match=message):
        block.build(shape)


def sinusoids(distance: int, channels: int) -> Tensor:
    angles = [distance / 10_000 ** (2 * i / channels) for i in range(channels // 2)]
    return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


def test_sinusoidal_distance_scores_each_pair_as_the_paper_writes_it() -> None:
    back = torch.arange(4)[:, None] - torch.arange(4)[None, :]
    module = started(SinusoidalDistance(8, 2, back, nearest=-3, farthest=3))
    query = torch.randn(1, 2, 4, 4)
    asked, score = module(query)
    torch.testing.assert_close(asked, query + module.to_key_H1E)
    for head in range(2):
        for i in range(4):
            for j in range(4):
                place = module.project(sinusoids(i - j, 8))[4 * head : 4 * head + 4]
                wanted = (query[0, head, i] + module.to_distance_H1E[head, 0]) @ place / 2
                torch.testing.assert_close(score[0, head, i, j], wanted)


def test_attention_by_sinusoidal_distance_moves_with_its_tokens() -> None:
    layer = Attention(heads=2, positions="sinusoidal", scope="window", window=4)
    module = started(layer.build((8, 8)))
    x = torch.randn(1, 4, 8)
    twice = module(torch.cat([x, x], dim=1))
    torch.testing.assert_close(twice[:, :4], twice[:, 4:])
    assert not torch.allclose(module(torch.cat([x, x], 1).flip(1)).flip(1), twice)


def test_memory_by_sinusoidal_distance_equals_attention_under_one_mask() -> None:
    spec = SegmentMemory(segment=4, heads=2, mlp_ratio=1.0, positions="sinusoidal")
    module = started(spec.build((12, 8)))
    x = torch.randn(2, 12, 8)
    normed = module.norm(x)
    query, (key, value) = module.query(normed), module.key_value(normed).split(8, dim=2)
    place = module.distance
    heard = []
    for head, part in enumerate((slice(0, 4), slice(4, 8))):
        scores = (query[..., part] + place.to_key_H1E[head]) @ key[..., part].transpose(1, 2)
        for i in range(12):
            for j in range(i + 1):
                far = place.project(sinusoids(i - j, 8))[part]
                scores[:, i, j] += (query[:, i, part] + place.to_distance_H1E[head, 0]) @ far
        steps = torch.arange(12)
        back = steps[:, None] - steps[None, :]
        seen = (back >= 0) & (steps[:, None] // 4 - steps[None, :] // 4 <= 1)
        scores = (scores / 2).masked_fill(~seen, -torch.inf)
        heard.append(scores.softmax(-1) @ value[..., part])
    expected = x + module.out(torch.cat(heard, dim=2))
    expected = expected + module.mlp(module.mlp_norm(expected))
    torch.testing.assert_close(module(x), expected)


def test_a_spectrograms_steps_are_its_columns() -> None:
    stem = SpectrogramStem(width=4)
    module = started(stem.build((1, 16, 24))).eval()
    assert stem.out_shape((1, 16, 24)) == (6, 4)
    x = torch.randn(1, 1, 16, 24)
    before = module(x)
    x[..., 23] += 1
    assert (module(x) != before).any(2)[0].tolist() == [False] * 5 + [True]


def test_a_vector_is_one_step_or_a_token_for_each_number() -> None:
    x = torch.randn(3, 5)
    whole, apart = (VectorStem(width=4, tokens=tokens) for tokens in (False, True))
    module = started(whole.build((5,)))
    torch.testing.assert_close(module(x)[:, 0], module[1](x))
    module = started(apart.build((5,)))
    expected = torch.stack([x[:, i, None] * module.weight_FC[i] for i in range(5)], dim=1)
    torch.testing.assert_close(module(x), expected + module.bias_FC)
    with pytest.raises(UnbuildableError, match=r"needs a vector \(numbers,\)"):
        whole.build((5, 2))


def test_a_single_step_is_widened_without_weights_for_neighbours() -> None:
    stage = Stage(width=8, depth=0, reduction="none", normalisation="layer", block=FeedForward())
    weights = {n: p.shape for n, p in stage.build((1, 5)).named_parameters()}
    assert torch.Size([8, 5, 1, 1]) in weights.values()
