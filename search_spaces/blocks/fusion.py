"""Fusion: the streams' last maps become one embedding, or are kept apart as towers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import (
    FUSIONS,
    UnbuildableError,
    added,
    as_tokens,
    check_name,
    register,
)
from search_spaces.blocks.heads import POOLINGS, pool, pooled_width
from search_spaces.blocks.hybrid import CrossAttention, tokens_of
from search_spaces.task import Shape

# B batch, C channels, H height, W width, D embedding width, S streams, N tokens

DETAILS = ("channel", "scalar")
"""A mix for each channel; one for the whole embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenate:
    """Every stream's map pooled over its places, then all joined end to end."""

    kind: ClassVar[str] = "concatenate"
    pooling: str = "average"
    """What is kept of each channel: its `average`, its `maximum`, a sequence's `last` step; or all
    that there is (`flatten`)."""

    normalisation: str = added("none")
    """Of what was joined: `none` or `layer`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The embedding's shape (D,), D the sum of what is kept of the streams.

        Raises:
            UnbuildableError: No stream, an unknown pooling, or the last step of a map.
        """
        check_name("normalisation", self.normalisation, ("none", "layer"))
        return (sum(_widths(shapes, self.pooling, fewest=1).values()),)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """The module for streams of these shapes."""
        (width,) = self.out_shape(shapes)
        pooled = PooledStreams(self.pooling)
        return (
            pooled if self.normalisation == "none" else nn.Sequential(pooled, nn.LayerNorm(width))
        )


class PooledStreams(nn.Module):
    """Pools and joins maps in the order of the streams."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """The embedding, shape (B, D)."""
        return torch.cat([pool(x_BCHW, self.pooling) for x_BCHW in maps.values()], dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """Streams brought to one width and mixed by learned shares that sum to one.

    What each stream holds decides, per example, how much each counts (Arevalo et al. 2017, gated
    multimodal units, with a softmax for any number of streams).
    """

    kind: ClassVar[str] = "gated"
    width: int = 64
    """Length of the embedding."""
    detail: str = "channel"
    """What has shares of its own: each `channel`, or the embedding as a whole (`scalar`)."""
    pooling: str = "average"
    """What is kept of each stream: `average`, `maximum`, `last` or `flatten`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The embedding's shape (D,).

        Raises:
            UnbuildableError: Fewer than two streams, or an unknown or impossible option.
        """
        check_name("detail", self.detail, DETAILS)
        _widths(shapes, self.pooling, fewest=2)
        return (_positive(self.width),)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """The module for streams of these shapes."""
        (width,) = self.out_shape(shapes)
        return GatedStreams(
            _widths(shapes, self.pooling, fewest=2),
            width,
            self.pooling,
            per_channel=self.detail == "channel",
        )


class GatedStreams(nn.Module):
    """A convex mix of the streams' projections."""

    def __init__(
        self, widths: Mapping[str, int], width: int, pooling: str, *, per_channel: bool
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.project = nn.ModuleDict({name: nn.Linear(own, width) for name, own in widths.items()})
        shares = width if per_channel else 1
        self.decide = nn.Linear(sum(widths.values()), len(widths) * shares)

    def reset_parameters(self) -> None:
        """Begin near an even mix: no stream may starve before it has learned anything."""
        nn.init.trunc_normal_(self.decide.weight, std=0.02)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """The embedding, shape (B, D)."""
        pooled = {name: pool(x, self.pooling) for name, x in maps.items()}
        joined_BD = torch.cat([pooled[name] for name in self.project], dim=1)
        streams_BSD = torch.stack(
            [torch.tanh(project(pooled[name])) for name, project in self.project.items()], dim=1
        )
        share_BSD = self.decide(joined_BD).unflatten(1, (len(self.project), -1)).softmax(1)
        mixed_BD: Tensor = (share_BSD * streams_BSD).sum(1)
        return mixed_BD


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossAttentionFusion:
    """One stream's tokens ask those of all others and are pooled with what they heard.

    Cross-attention (Vaswani et al. 2017; between modalities, Tsai et al. 2019).
    """

    kind: ClassVar[str] = "cross_attention"
    asking: str
    """Name of the stream that asks."""
    width: int = 64
    """Length of the embedding, and channels in which streams meet."""
    heads: int = 4
    """In how many parts the channels ask independently; divides them."""
    pooling: str = "average"
    """What is kept of the asking stream: `average`, `maximum`, `last` or `flatten`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The embedding's shape (D,).

        Raises:
            UnbuildableError: Fewer than two streams, none of that name, an unknown pooling, or
                heads that do not divide the width.
        """
        check_name("stream", self.asking, shapes)
        _widths(shapes, self.pooling, fewest=2)
        if self.heads < 1 or _positive(self.width) % self.heads:
            raise UnbuildableError(f"heads must divide {self.width} channels, not {self.heads}")
        _, height, width = as_tokens(shapes[self.asking], self.kind)
        return (self.width * (height * width if self.pooling == "flatten" else 1),)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """The module for streams of these shapes."""
        self.out_shape(shapes)
        channels = {name: as_tokens(shape, self.kind)[0] for name, shape in shapes.items()}
        return AskingStream(self, channels)


class AskingStream(nn.Module):
    """Projects all streams' tokens to one width and lets one stream ask the rest."""

    def __init__(self, spec: CrossAttentionFusion, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.asking = spec.asking
        self.pooling = spec.pooling
        self.project = nn.ModuleDict(
            {name: nn.Linear(own, spec.width) for name, own in channels.items()}
        )
        self.ask = CrossAttention(spec.width, spec.heads)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """The embedding, shape (B, D)."""
        tokens = {name: project(tokens_of(maps[name])) for name, project in self.project.items()}
        others = [tokens[name] for name in tokens if name != self.asking]
        return pool(self.ask(tokens[self.asking], torch.cat(others, dim=1)), self.pooling)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoTower:
    """Streams brought to one width and length 1, and kept apart: (T, D) rather than (D,).

    For training by contrast and retrieval of one modality by another (Radford et al. 2021, CLIP); a
    head that answers reads the towers end to end.
    """

    kind: ClassVar[str] = "two_tower"
    width: int = 64
    """Length of each tower's embedding."""
    pooling: str = "average"
    """What is kept of each stream: `average`, `maximum`, `last` or `flatten`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The embeddings' shape (T, D).

        Raises:
            UnbuildableError: Fewer than two streams, or an unknown or impossible pooling.
        """
        return len(_widths(shapes, self.pooling, fewest=2)), _positive(self.width)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """The module for streams of these shapes."""
        self.out_shape(shapes)
        return Towers(_widths(shapes, self.pooling, fewest=2), self.width, self.pooling)


class Towers(nn.Module):
    """Each stream pooled, projected, and brought to length 1."""

    def __init__(self, widths: Mapping[str, int], width: int, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.project = nn.ModuleDict({name: nn.Linear(own, width) for name, own in widths.items()})

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """The towers in the order of the streams, shape (B, T, D)."""
        towers = [
            functional.normalize(project(pool(maps[name], self.pooling)), dim=1)
            for name, project in self.project.items()
        ]
        return torch.stack(towers, dim=1)


def _widths(shapes: Mapping[str, Shape], pooling: str, *, fewest: int) -> dict[str, int]:
    """How many numbers pooling keeps of each stream.

    Raises:
        UnbuildableError: Too few streams, an unknown pooling, or one that does not fit a stream.
    """
    if len(shapes) < fewest:
        wanted = "one stream" if fewest == 1 else "two streams"
        raise UnbuildableError(f"fusion needs at least {wanted}")
    check_name("pooling", pooling, POOLINGS)
    return {name: pooled_width(shape, pooling) for name, shape in shapes.items()}


def _positive(width: int) -> int:
    if width < 1:
        raise UnbuildableError(f"width must be at least 1, not {width}")
    return width


register(FUSIONS, Concatenate)
register(FUSIONS, Gated)
register(FUSIONS, CrossAttentionFusion)
register(FUSIONS, TwoTower)
