"""Blocks equal plain reference programs of their sources.

What equals a module of torch's, or fits the tests of one family better, is compared there.
"""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks import (
    Attention,
    Block,
    ConvNeXt,
    MBConv,
    Recurrent,
    TemporalConvolution,
)
from search_spaces.blocks.initialisation import initialize
from search_spaces.blocks.positions import Rotary
from search_spaces.task import Shape


def started(block: Block, shape: Shape) -> nn.Module:
    torch.manual_seed(0)
    module = block.build(shape)
    initialize(module, "he")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def in_group(scope: str, place: int, side: int, size: int) -> tuple[int, int]:
    """Which group a row or column belongs to, and its position in it."""
    count = math.ceil(size / side)
    if scope == "grid":
        return place % count, place // count
    shift = side // 2 if scope == "shifted" and count > 1 else 0
    return (place - shift) // side, place


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (3, 9)], ids=str)
@pytest.mark.parametrize("scope", ["window", "shifted", "grid"])
def test_attention_in_groups_equals_a_loop_over_pairs(scope: str, size: tuple[int, int]) -> None:
    spec = Attention(heads=2, scope=scope, window=4, positions="relative")
    module = started(spec, (8, *size))
    high, wide = (min(4, side) for side in size)
    places = [(row, column) for row in range(size[0]) for column in range(size[1])]
    x = torch.randn(2, 8, *size)
    tokens = x.flatten(2).transpose(1, 2)
    query, key, value = module.attention.qkv(module.attention_norm(tokens)).split(8, dim=2)
    heard = torch.zeros(2, len(places), 8)
    for one, (row, column) in enumerate(places):
        for head, part in enumerate((slice(0, 4), slice(4, 8))):
            scores, values = [], []
            for other, (down, right) in enumerate(places):
                rows = [in_group(scope, place, high, size[0]) for place in (row, down)]
                columns = [in_group(scope, place, wide, size[1]) for place in (column, right)]
                if rows[0][0] != rows[1][0] or columns[0][0] != columns[1][0]:
                    continue
                away = (
                    rows[0][1] - rows[1][1] + high - 1,
                    columns[0][1] - columns[1][1] + wide - 1,
                )
                bias = module.attention.bias.table_HD[head].reshape(-1, 2 * wide - 1)[away]
                score = (query[:, one, part] * key[:, other, part]).sum(1) / 2 + bias
                scores.append(score)
                values.append(value[:, other, part])
            weights = torch.stack(scores, dim=1).softmax(1)
            heard[:, one, part] = (weights[:, :, None] * torch.stack(values, dim=1)).sum(1)
    expected = tokens + module.attention.out(heard)
    expected = expected + module.mlp(module.mlp_norm(expected))
    expected = expected.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


def test_rotary_positions_equal_multiplication_by_complex_numbers() -> None:
    height, width, pairs = 3, 4, 4
    x = torch.randn(1, 1, height * width, 2 * pairs)
    turned = Rotary(2 * pairs, height, width)(x)
    for place in range(height * width):
        row, column = divmod(place, width)
        for pair in range(pairs):
            along, speed = (column, pair) if pair < 2 else (row, pair - 2)
            angle = along * 10_000 ** (-speed / 2)
            number = complex(x[0, 0, place, pair], x[0, 0, place, pair + pairs])
            expected = number * complex(math.cos(angle), math.sin(angle))
            found = complex(turned[0, 0, place, pair], turned[0, 0, place, pair + pairs])
            assert abs(found - expected) < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
def test_convolved_attention_equals_softmax_over_convolved_tokens(stride: int) -> None:
    spec = Attention(heads=2, form="convolution", positions="none", stride=stride)
    layer = started(spec, (8, 5, 4))
    attention = layer.attention
    x = torch.randn(2, 8, 5, 4)
    normed = layer.attention_norm(x.flatten(2).transpose(1, 2))
    as_map = normed.transpose(1, 2).reshape(x.shape)
    parts = []
    for index, name in enumerate(("query", "key", "value")):
        convolve, norm = getattr(attention, name)
        step = 1 if name == "query" else stride
        convolved = functional.conv2d(as_map, convolve.weight, None, step, 1, groups=8)
        scaled = convolved * norm.weight[:, None, None] / math.sqrt(1 + norm.eps)
        scaled = scaled + norm.bias[:, None, None]
        parts.append(attention.project[index](scaled.flatten(2).transpose(1, 2)))
    query, key, value = parts
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 2
        heads.append(scores.softmax(-1) @ value[..., part])
    expected = attention.out(torch.cat(heads, dim=2))
    torch.testing.assert_close(attention(normed), expected, rtol=1e-4, atol=1e-5)


def over_channels(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centered = x - x.mean(1, keepdim=True)
    scaled = centered / (centered.square().mean(1, keepdim=True) + norm.eps).sqrt()
    return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_a_convnext_block_is_depthwise_normalised_widened_narrowed_scaled_and_added() -> None:
    module = started(ConvNeXt(kernel=5, expansion=3, layer_scale=0.5), (8, 6, 5))
    depthwise, norm, widen, _, narrow, scale = module.branch
    x = torch.randn(2, 8, 6, 5)
    padded = functional.pad(x, (2, 2, 2, 2))
    y = torch.zeros_like(x) + depthwise.bias[:, None, None]
    for row in range(5):
        for column in range(5):
            weight = depthwise.weight[:, 0, row, column, None, None]
            y = y + weight * padded[:, :, row : row + 6, column : column + 5]
    tokens = over_channels(y, norm).permute(0, 2, 3, 1)
    wide = tokens @ widen.weight.flatten(1).T + widen.bias
    wide = 0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))
    branch = (wide @ narrow.weight.flatten(1).T + narrow.bias).permute(0, 3, 1, 2)
    expected = x + branch * scale.scale
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


def test_an_mbconv_block_is_widened_depthwise_squeezed_and_narrowed_without_activation() -> None:
    module = started(MBConv(expansion=2, squeeze=True, activation="silu"), (8, 6, 5))
    widen, first, _, depthwise, second, _, excite, narrow, third = module.branch

    def normed(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        y = (y - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[
            :, None, None
        ]
        return y * norm.weight[:, None, None] + norm.bias[:, None, None]

    with torch.no_grad():
        for norm in (first, second, third):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 8, 6, 5)
    y = normed(torch.einsum("bchw,dc->bdhw", x, widen.weight.flatten(1)), first)
    y = functional.pad(y * y.sigmoid(), (1, 1, 1, 1))
    weight = depthwise.weight[:, 0, :, :, None, None]
    y = sum(
        weight[:, row, column] * y[:, :, row : row + 6, column : column + 5]
        for row in range(3)
        for column in range(3)
    )
    y = normed(y, second)
    y = y * y.sigmoid()
    squeeze, _, unsqueeze, _ = excite.weigh
    hidden = (y.mean((2, 3)) @ squeeze.weight.flatten(1).T + squeeze.bias).clamp(min=0)
    y = y * (hidden @ unsqueeze.weight.flatten(1).T + unsqueeze.bias).sigmoid()[:, :, None, None]
    y = normed(torch.einsum("bchw,dc->bdhw", y, narrow.weight.flatten(1)), third)
    torch.testing.assert_close(module(x), x + y, rtol=1e-4, atol=1e-5)


def test_a_gru_equals_its_equations_written_out() -> None:
    module = started(Recurrent(cell="gru"), (7, 6))
    cell = module.cell
    x = torch.randn(2, 7, 6)
    state, states = torch.zeros(2, 6), []
    for step in range(7):
        inner = (x[:, step] @ cell.weight_ih_l0.T + cell.bias_ih_l0).chunk(3, dim=1)
        past = (state @ cell.weight_hh_l0.T + cell.bias_hh_l0).chunk(3, dim=1)
        reset, keep = ((one + other).sigmoid() for one, other in zip(inner[:2], past, strict=False))
        new = (inner[2] + reset * past[2]).tanh()
        state = keep * state + (1 - keep) * new
        states.append(state)
    torch.testing.assert_close(module(x), torch.stack(states, dim=1))


def test_a_temporal_convolution_equals_a_loop_over_steps() -> None:
    module = started(TemporalConvolution(kernel=3, dilation=2), (9, 4))
    x = torch.randn(2, 9, 4)
    y = x
    for convolve, norm in zip(module.convolutions, module.norms, strict=True):
        steps = []
        for step in range(9):
            total = convolve.bias.expand(2, -1)
            for tap in range(3):
                seen = step - 2 * (2 - tap)
                if seen >= 0:
                    total = total + y[:, seen] @ convolve.weight[:, :, tap].T
            steps.append(norm(total).clamp(min=0))
        y = torch.stack(steps, dim=1)
    torch.testing.assert_close(module(x), x + y, rtol=1e-4, atol=1e-5)
