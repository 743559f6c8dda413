"""A Transformer layer over the positions of a map or the steps of a sequence."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import (
    UnbuildableError,
    added,
    as_tokens,
    check_name,
    register_block,
)
from search_spaces.blocks.drop_path import DropPath
from search_spaces.blocks.layer_scale import layer_scale
from search_spaces.blocks.normalisation import RMSNorm, activation
from search_spaces.blocks.positions import POSITIONS, RelativeBias, Rotary, SinusoidalDistance
from search_spaces.blocks.self_attention import (
    FORMS,
    ConvolvedAttention,
    LinearAttention,
    SelfAttention,
)
from search_spaces.blocks.windows import SCOPES, Groups
from search_spaces.task import Shape

# B batch, C channels, H height, W width, N = H*W tokens, G groups of tokens

TOKEN_NORMALIZATIONS = {"layer": nn.LayerNorm, "rms": RMSNorm}
"""Normalization of each token over its channels (Ba et al. 2016; Zhang and Sennrich 2019)."""


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Pre-norm Transformer encoder layer over a map's positions (Vaswani et al. 2017).

    Each layer has its own positional encoding, so it can be used anywhere between convolutions. A
    sequence (length, features) is a map of one row.
    """

    kind: ClassVar[str] = "attention"
    symbol: ClassVar[str] = "T"
    heads: int = 4
    """Number of attention heads; must divide the channel count."""
    mlp_ratio: float = 2.0
    """MLP expansion ratio; 0 removes the MLP."""
    activation: str = "gelu"
    """Activation of the MLP: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Stochastic-depth rate, applied to each residual branch."""
    positions: str = added("learned")
    """Positional encoding: `learned`, `none`, `relative`, `rotary`, or for sequences
    `sinusoidal`."""
    scope: str = added("all")
    """Attention pattern: `all`, `window`, `shifted` window, or `grid` over the map."""
    window: int = added(7)
    """Side of windows and grids in tokens; without effect for `all`."""
    form: str = added("softmax")
    """Form of attention: `softmax`, `linear`, or `convolution` (convolutional projections).

    The latter two need the pattern `all`, with positions `learned` or `none`.
    """
    stride: int = added(1)
    """Stride of the convolutions of keys and values, in the form `convolution`."""
    normalisation: str = added("layer")
    """Normalization before attention and MLP: `layer` or `rms`."""
    layer_scale: float = added(0.0)
    """Initial value of a learned scale per channel of each branch; 0 omits the scale."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

        Raises:
            UnbuildableError: The heads do not divide the channels, or the options exclude each
                other.
        """
        channels, _, _ = as_tokens(shape, self.kind)
        if self.heads < 1 or channels % self.heads:
            raise UnbuildableError(f"heads must divide {channels} channels, not {self.heads}")
        check_name("positions", self.positions, POSITIONS)
        check_name("scope", self.scope, SCOPES)
        check_name("form", self.form, FORMS)
        check_name("normalisation", self.normalisation, TOKEN_NORMALIZATIONS)
        if min(self.window, self.stride) < 1:
            raise UnbuildableError("window and stride must be at least 1")
        plain = self.scope == "all" and self.positions in ("learned", "none")
        if self.form != "softmax" and not plain:
            raise UnbuildableError(
                f"the form {self.form!r} needs the scope 'all' and positions 'learned' or 'none', "
                f"not {self.scope!r} with {self.positions!r}"
            )
        if self.form == "convolution" and len(shape) != 3:
            raise UnbuildableError("the form 'convolution' needs a map, not a sequence")
        if self.positions == "sinusoidal" and len(shape) != 2:
            raise UnbuildableError("sinusoidal positions need a sequence, not a map")
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for maps of this shape."""
        return EncoderLayer(self, *as_tokens(self.out_shape(shape), self.kind))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """Return the module that also changes width and, by pooling, resolution (Dai et al. 2021).

        Raises:
            UnbuildableError: The form is not `softmax`.
        """
        if self.form != "softmax":
            raise UnbuildableError(f"attention of the form {self.form!r} cannot change the width")
        channels, height, width = as_tokens(shape, self.kind)
        layer = as_tokens(self.out_shape(target), self.kind)
        return EncoderLayer(
            self, *layer, entry=Downsample(channels, layer[0], (height, width), layer[1:])
        )


class EncoderLayer(nn.Module):
    """Attention, then an MLP, each with a residual connection."""

    position_NC: nn.Parameter | None
    mlp: nn.Sequential | None

    def __init__(
        self,
        spec: Attention,
        channels: int,
        height: int,
        width: int,
        *,
        entry: "Downsample | None" = None,
    ) -> None:
        super().__init__()
        self.position_NC = None
        before = channels if entry is None else entry.channels
        if spec.positions == "learned":
            self.position_NC = nn.Parameter(torch.empty(height * width, before))
        normalize = TOKEN_NORMALIZATIONS[spec.normalisation]
        self.attention_norm = normalize(before)
        self.entry = entry
        self.groups = None
        if spec.scope != "all":
            self.groups = Groups(spec.scope, spec.window, height, width)
        self.size = height, width
        sides = self.size if self.groups is None else self.groups.sides
        self.attention = _attention(spec, channels, *sides, before=before)
        self.attention_scale = layer_scale(spec.layer_scale, channels)
        self.drop = DropPath(spec.drop_path)
        self.mlp = None
        if spec.mlp_ratio:
            self.mlp_norm = normalize(channels)
            wide = max(1, round(channels * spec.mlp_ratio))
            self.mlp = nn.Sequential(
                nn.Linear(channels, wide), activation(spec.activation), nn.Linear(wide, channels)
            )
            self.mlp_scale = layer_scale(spec.layer_scale, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start near zero, so that content counts before position."""
        if self.position_NC is not None:
            nn.init.trunc_normal_(self.position_NC, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (B, C, H, W) or sequence (B, N, C) after attention and MLP."""
        # With the channels-last memory format both reshapes are views.
        tokens_BNC: Tensor = x.flatten(2).transpose(1, 2) if x.dim() == 4 else x
        normed_BNC = self.attention_norm(tokens_BNC)
        if self.entry is not None:
            tokens_BNC, normed_BNC = self.entry(tokens_BNC), self.entry.pooled(normed_BNC)
        if self.position_NC is not None:
            normed_BNC = normed_BNC + self.position_NC
        attended_BNC = self.attention_scale(self._attend(normed_BNC))
        tokens_BNC = tokens_BNC + self.drop(attended_BNC)
        if self.mlp is not None:
            mixed_BNC = self.mlp_scale(self.mlp(self.mlp_norm(tokens_BNC)))
            tokens_BNC = tokens_BNC + self.drop(mixed_BNC)
        if x.dim() == 3:
            return tokens_BNC
        y: Tensor = tokens_BNC.transpose(1, 2).reshape(len(x), -1, *self.size)
        return y

    def _attend(self, tokens_BNC: Tensor) -> Tensor:
        if self.groups is None:
            attended_BNC: Tensor = self.attention(tokens_BNC)
            return attended_BNC
        batch, _, channels = tokens_BNC.shape
        tokens_GNC = self.groups.cut(tokens_BNC.reshape(batch, *self.size, channels))
        return self.groups.join(self.attention(tokens_GNC, self.groups.mask_GNN)).flatten(1, 2)


class Downsample(nn.Module):
    """Downsamples tokens by average pooling and projects them to another width."""

    def __init__(
        self, channels: int, width: int, size: tuple[int, int], target: tuple[int, int]
    ) -> None:
        super().__init__()
        self.channels = channels
        """Width of the incoming tokens."""
        self.size = size
        self.halves = size != target
        self.project = nn.Linear(channels, width)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """Return the pooled tokens, projected to the new width."""
        projected_BNC: Tensor = self.project(self.pooled(tokens_BNC))
        return projected_BNC

    def pooled(self, tokens_BNC: Tensor) -> Tensor:
        """Return means of 2 by 2 tokens where the map is halved, in the incoming width."""
        if not self.halves:
            return tokens_BNC
        x_BCHW = tokens_BNC.transpose(1, 2).reshape(len(tokens_BNC), -1, *self.size)
        return functional.avg_pool2d(x_BCHW, 2, ceil_mode=True).flatten(2).transpose(1, 2)


def _attention(
    spec: Attention, channels: int, height: int, width: int, *, before: int
) -> nn.Module:
    """Return the attention module for groups of this height and width; `before` is their width."""
    if spec.form == "linear":
        return LinearAttention(channels, spec.heads)
    if spec.form == "convolution":
        return ConvolvedAttention(channels, spec.heads, height, width, spec.stride)
    relative, rotary = spec.positions == "relative", spec.positions == "rotary"
    return SelfAttention(
        channels,
        spec.heads,
        bias=RelativeBias(spec.heads, height, width) if relative else None,
        rotary=Rotary(channels // spec.heads, height, width) if rotary else None,
        distance=_distance(channels, spec.heads, width) if spec.positions == "sinusoidal" else None,
        before=before,
    )


def _distance(channels: int, heads: int, length: int) -> SinusoidalDistance:
    """Return the signed distances between the steps of a sequence."""
    steps_N = torch.arange(length)
    back_NN = steps_N[:, None] - steps_N[None, :]
    return SinusoidalDistance(channels, heads, back_NN, nearest=1 - length, farthest=length - 1)
