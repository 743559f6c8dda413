"""Fusion: the streams' last maps become one embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import FUSIONS, UnbuildableError, check_name, register
from search_spaces.blocks.heads import POOLINGS, pool
from search_spaces.task import Shape

# B batch, C channels, H height, W width, D embedding width


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenate:
    """Every stream's map pooled over its places, then all joined end to end."""

    kind: ClassVar[str] = "concatenate"
    pooling: str = "average"
    """What is kept of each channel: its `average` or its `maximum`."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The embedding's shape (D,), D the sum of the streams' channels.

        Raises:
            UnbuildableError: No stream, or an unknown pooling.
        """
        if not shapes:
            raise UnbuildableError("fusion needs at least one stream")
        check_name("pooling", self.pooling, POOLINGS)
        return (sum(shape[0] for shape in shapes.values()),)

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """The module for streams of these shapes."""
        self.out_shape(shapes)
        return PooledStreams(self.pooling)


class PooledStreams(nn.Module):
    """Pools and joins maps in the order of the streams."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """The embedding, shape (B, D)."""
        return torch.cat([pool(x_BCHW, self.pooling) for x_BCHW in maps.values()], dim=1)


register(FUSIONS, Concatenate)
