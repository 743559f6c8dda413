"""Fusion: the streams' last maps become one embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import (
    FUSIONS,
    UnbuildableError,
    added,
    as_tokens,
    check_name,
    register,
)
from search_spaces.blocks.heads import POOLINGS, pool
from search_spaces.task import Shape

# B batch, C channels, H height, W width, D embedding width


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenate:
    """Every stream's map pooled over its places, then all joined end to end."""

    kind: ClassVar[str] = "concatenate"
    pooling: str = "average"
    """What is kept of each channel: its `average`, its `maximum`, or a sequence's `last` step."""

    normalisation: str = added("none")
    """Of what was joined: `none` or `layer`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The embedding's shape (D,), D the sum of the streams' channels.

        Raises:
            UnbuildableError: No stream, an unknown pooling, or the last step of a map.
        """
        if not shapes:
            raise UnbuildableError("fusion needs at least one stream")
        check_name("pooling", self.pooling, POOLINGS)
        check_name("normalisation", self.normalisation, ("none", "layer"))
        if self.pooling == "last" and any(len(shape) != 2 for shape in shapes.values()):
            raise UnbuildableError("only sequences have a last step; pool maps by average")
        return (sum(as_tokens(shape, self.kind)[0] for shape in shapes.values()),)

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


register(FUSIONS, Concatenate)
