"""Fusions: combine the streams' last maps into one embedding, or keep them apart as towers."""

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
"""One mix per channel, or one for the whole embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenate:
    """Pools every stream's map over its positions and concatenates the results."""

    kind: ClassVar[str] = "concatenate"
    pooling: str = "average"
    """Pooling: `average`, `maximum`, a sequence's `last` step, or none (`flatten`)."""

    normalisation: str = added("none")
    """Normalization of the concatenation: `none` or `layer`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape (D,) of the embedding; D is the sum of the pooled sizes.

        Raises:
            UnbuildableError: There is no stream, the pooling is unknown, or the last step of a map
                is requested.
        """
        check_name("normalisation", self.normalisation, ("none", "layer"))
        return (sum(_widths(shapes, self.pooling, fewest=1).values()),)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """Return the module for streams of these shapes."""
        (width,) = self.out_shape(shapes)
        pooled = PooledStreams(self.pooling)
        return (
            pooled if self.normalisation == "none" else nn.Sequential(pooled, nn.LayerNorm(width))
        )


class PooledStreams(nn.Module):
    """Pools and concatenates maps in the order of the streams."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Return the embedding, shape (B, D)."""
        return torch.cat([pool(x_BCHW, self.pooling) for x_BCHW in maps.values()], dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """Weighted mean of the projected streams, with learned weights per example.

    The weights depend on all streams (Arevalo et al. 2017, gated multimodal units; here a softmax
    over any number of streams).
    """

    kind: ClassVar[str] = "gated"
    width: int = 64
    """Length of the embedding."""
    detail: str = "channel"
    """Granularity of the weights: one per `channel`, or one per stream (`scalar`)."""
    pooling: str = "average"
    """Pooling of each stream: `average`, `maximum`, `last` or `flatten`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape (D,) of the embedding.

        Raises:
            UnbuildableError: There are fewer than two streams, or an option is unknown or
                impossible.
        """
        check_name("detail", self.detail, DETAILS)
        _widths(shapes, self.pooling, fewest=2)
        return (_positive(self.width),)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """Return the module for streams of these shapes."""
        (width,) = self.out_shape(shapes)
        return GatedStreams(
            _widths(shapes, self.pooling, fewest=2),
            width,
            self.pooling,
            per_channel=self.detail == "channel",
        )


class GatedStreams(nn.Module):
    """Convex combination of the streams' projections."""

    def __init__(
        self, widths: Mapping[str, int], width: int, pooling: str, *, per_channel: bool
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.project = nn.ModuleDict({name: nn.Linear(own, width) for name, own in widths.items()})
        shares = width if per_channel else 1
        self.decide = nn.Linear(sum(widths.values()), len(widths) * shares)

    def reset_parameters(self) -> None:
        """Start near equal weights, so that every stream gets a gradient."""
        nn.init.trunc_normal_(self.decide.weight, std=0.02)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Return the embedding, shape (B, D)."""
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
    """Cross-attention: one stream queries all others; the result is pooled.

    Sources: Vaswani et al. 2017; between modalities, Tsai et al. 2019.
    """

    kind: ClassVar[str] = "cross_attention"
    asking: str
    """Name of the stream that makes the queries."""
    width: int = 64
    """Length of the embedding, and width of the attention."""
    heads: int = 4
    """Number of attention heads; must divide the width."""
    pooling: str = "average"
    """Pooling of the querying stream: `average`, `maximum`, `last` or `flatten`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape (D,) of the embedding.

        Raises:
            UnbuildableError: There are fewer than two streams, none has that name, the pooling is
                unknown, or the heads do not divide the width.
        """
        check_name("stream", self.asking, shapes)
        _widths(shapes, self.pooling, fewest=2)
        if self.heads < 1 or _positive(self.width) % self.heads:
            raise UnbuildableError(f"heads must divide {self.width} channels, not {self.heads}")
        _, height, width = as_tokens(shapes[self.asking], self.kind)
        return (self.width * (height * width if self.pooling == "flatten" else 1),)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """Return the module for streams of these shapes."""
        self.out_shape(shapes)
        channels = {name: as_tokens(shape, self.kind)[0] for name, shape in shapes.items()}
        return AskingStream(self, channels)


class AskingStream(nn.Module):
    """Projects the tokens of all streams to one width; one stream queries the others."""

    def __init__(self, spec: CrossAttentionFusion, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.asking = spec.asking
        self.pooling = spec.pooling
        self.project = nn.ModuleDict(
            {name: nn.Linear(own, spec.width) for name, own in channels.items()}
        )
        self.ask = CrossAttention(spec.width, spec.heads)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Return the embedding, shape (B, D)."""
        tokens = {name: project(tokens_of(maps[name])) for name, project in self.project.items()}
        others = [tokens[name] for name in tokens if name != self.asking]
        return pool(self.ask(tokens[self.asking], torch.cat(others, dim=1)), self.pooling)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoTower:
    """Projects each stream to one width and L2-normalizes it: towers (T, D) instead of (D,).

    For contrastive training and cross-modal retrieval (Radford et al. 2021, CLIP); heads that
    predict read the concatenated towers.
    """

    kind: ClassVar[str] = "two_tower"
    width: int = 64
    """Length of each tower's embedding."""
    pooling: str = "average"
    """Pooling of each stream: `average`, `maximum`, `last` or `flatten`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape (T, D) of the embeddings.

        Raises:
            UnbuildableError: There are fewer than two streams, or the pooling is unknown or
                impossible.
        """
        return len(_widths(shapes, self.pooling, fewest=2)), _positive(self.width)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """Return the module for streams of these shapes."""
        self.out_shape(shapes)
        return Towers(_widths(shapes, self.pooling, fewest=2), self.width, self.pooling)


class Towers(nn.Module):
    """Pools, projects and L2-normalizes each stream."""

    def __init__(self, widths: Mapping[str, int], width: int, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.project = nn.ModuleDict({name: nn.Linear(own, width) for name, own in widths.items()})

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Return the towers in the order of the streams, shape (B, T, D)."""
        towers = [
            functional.normalize(project(pool(maps[name], self.pooling)), dim=1)
            for name, project in self.project.items()
        ]
        return torch.stack(towers, dim=1)


def _widths(shapes: Mapping[str, Shape], pooling: str, *, fewest: int) -> dict[str, int]:
    """Return the pooled size of each stream.

    Raises:
        UnbuildableError: There are too few streams, or the pooling is unknown or does not fit a
            stream.
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
