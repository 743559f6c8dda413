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

TOKEN_NORMALISATIONS = {"layer": nn.LayerNorm, "rms": RMSNorm}
"""Of each token over its channels (Ba et al. 2016; Zhang and Sennrich 2019)."""


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """A Transformer encoder layer over a map's positions (Vaswani et al. 2017; normalised before).

    Each layer learns where its tokens lie, so that it can stand anywhere between convolutions. A
    sequence (length, features) is a map of one row.
    """

    kind: ClassVar[str] = "attention"
    symbol: ClassVar[str] = "T"
    heads: int = 4
    """In how many parts the channels look around independently; divides them."""
    mlp_ratio: float = 2.0
    """How many times wider the inside of the token-wise network is; 0 leaves it out."""
    activation: str = "gelu"
    """Inside the token-wise network: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Chance that an example skips attention, and again that it skips the token-wise network."""
    positions: str = added("learned")
    """How a token knows where it lies: `learned`, `none`, `relative`, `rotary`, or of a sequence
    `sinusoidal`."""
    scope: str = added("all")
    """Whom it attends to: `all`, its `window`, its `shifted` window, or a `grid` over the map."""
    window: int = added(7)
    """Side of windows and grids in tokens; without effect where all are attended to."""
    form: str = added("softmax")
    """How: by `softmax`, `linear` in the number of tokens, or by `convolution` of tokens first.

    The latter two attend to all, with positions `learned` or `none`.
    """
    stride: int = added(1)
    """Step between the places that give keys and values, in the form `convolution`."""
    normalisation: str = added("layer")
    """Before attention and before the token-wise network: `layer` or `rms`."""
    layer_scale: float = added(0.0)
    """How much of each branch counts at the start, learned from there on; 0 leaves them whole."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in.

        Raises:
            UnbuildableError: The heads do not divide the channels, or forms that exclude each
                other are combined.
        """
        channels, _, _ = as_tokens(shape, self.kind)
        if self.heads < 1 or channels % self.heads:
            raise UnbuildableError(f"heads must divide {channels} channels, not {self.heads}")
        check_name("positions", self.positions, POSITIONS)
        check_name("scope", self.scope, SCOPES)
        check_name("form", self.form, FORMS)
        check_name("normalisation", self.normalisation, TOKEN_NORMALISATIONS)
        if min(self.window, self.stride) < 1:
            raise UnbuildableError("window and stride must be at least 1")
        plain = self.scope == "all" and self.positions in ("learned", "none")
        if self.form != "softmax" and not plain:
            raise UnbuildableError(
                f"the form {self.form!r} attends to all, with positions 'learned' or 'none', "
                f"not {self.scope!r} with {self.positions!r}"
            )
        if self.form == "convolution" and len(shape) != 3:
            raise UnbuildableError("the form 'convolution' needs a map, not a sequence")
        if self.positions == "sinusoidal" and len(shape) != 2:
            raise UnbuildableError("sinusoidal positions need a sequence, not a map")
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape."""
        return EncoderLayer(self, *as_tokens(self.out_shape(shape), self.kind))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """The module that also changes width and, by averages, resolution (Dai et al. 2021).

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
    """Attention, then a token-wise network, each added to its input."""

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
        normalise = TOKEN_NORMALISATIONS[spec.normalisation]
        self.attention_norm = normalise(before)
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
            self.mlp_norm = normalise(channels)
            wide = max(1, round(channels * spec.mlp_ratio))
            self.mlp = nn.Sequential(
                nn.Linear(channels, wide), activation(spec.activation), nn.Linear(wide, channels)
            )
            self.mlp_scale = layer_scale(spec.layer_scale, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Positions start near zero: the layer first learns what, then where."""
        if self.position_NC is not None:
            nn.init.trunc_normal_(self.position_NC, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """The map (B, C, H, W) or sequence (B, N, C), every position informed by others."""
        # In channels-last memory both reshapes are views.
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
    """Brings tokens to half their map's size and to another width."""

    def __init__(
        self, channels: int, width: int, size: tuple[int, int], target: tuple[int, int]
    ) -> None:
        super().__init__()
        self.channels = channels
        """Width of the tokens that come in."""
        self.size = size
        self.halves = size != target
        self.project = nn.Linear(channels, width)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """The tokens' averages, mapped to the width."""
        projected_BNC: Tensor = self.project(self.pooled(tokens_BNC))
        return projected_BNC

    def pooled(self, tokens_BNC: Tensor) -> Tensor:
        """Averages of 2 by 2 tokens where the map is halved, in the width that came in."""
        if not self.halves:
            return tokens_BNC
        x_BCHW = tokens_BNC.transpose(1, 2).reshape(len(tokens_BNC), -1, *self.size)
        return functional.avg_pool2d(x_BCHW, 2, ceil_mode=True).flatten(2).transpose(1, 2)


def _attention(
    spec: Attention, channels: int, height: int, width: int, *, before: int
) -> nn.Module:
    """What lets the tokens of a group of this height and width mix; `before` is their width."""
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
    """Distances in both directions between the steps of a sequence."""
    steps_N = torch.arange(length)
    back_NN = steps_N[:, None] - steps_N[None, :]
    return SinusoidalDistance(channels, heads, back_NN, nearest=1 - length, farthest=length - 1)
