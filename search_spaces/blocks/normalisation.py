"""Normalisation and activation of feature maps, chosen by name."""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import check_name

MAX_GROUPS = 8
"""Group normalisation uses this many groups, or fewer where the channels do not divide by it."""


class MapLayerNorm(nn.LayerNorm):
    """Normalises every position of a map over its channels (Ba et al. 2016, as in ConvNeXt)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The map, over C of mean 0 and variance 1 at each position, then scaled and shifted."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RMSNorm(nn.RMSNorm):
    """Divides by the root mean square (Zhang, Sennrich 2019), in the precision of what comes in."""

    def forward(self, x: Tensor) -> Tensor:
        """The input, over its last dimension of mean square 1, then scaled."""
        # Autocast leaves the scale in float32, which no fused kernel takes beside bfloat16.
        return functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class MapRMSNorm(RMSNorm):
    """Divides every position of a map by its channels' root mean square."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The map, over C of mean square 1 at each position, then scaled."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMALISATIONS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(math.gcd(channels, MAX_GROUPS), channels),
    "layer": MapLayerNorm,
    "rms": MapRMSNorm,
    "none": lambda _: nn.Identity(),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # In place: what comes before (a normalisation, a sum, a linear layer) keeps its input, not what
    # it gives, and a pass over a large map is saved.
    "relu": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def normalisation(name: str, channels: int) -> nn.Module:
    """The normalisation of that name for maps of so many channels.

    Raises:
        UnbuildableError: No normalisation has this name.
    """
    check_name("normalisation", name, NORMALISATIONS)
    return NORMALISATIONS[name](channels)


def activation(name: str) -> nn.Module:
    """The activation of that name.

    Raises:
        UnbuildableError: No activation has this name.
    """
    check_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
