"""Normalization and activation layers by name."""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import check_name

MAX_GROUPS = 8
"""Maximum number of groups of group normalization; fewer where they do not divide the channels."""


class MapLayerNorm(nn.LayerNorm):
    """Layer normalization of each position of a map over its channels (Ba et al. 2016)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the map, standardized over C at each position, then scaled and shifted."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RMSNorm(nn.RMSNorm):
    """Root mean square normalization (Zhang and Sennrich 2019), in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the input, with mean square 1 over its last dimension, then scaled."""
        # Autocast keeps the scale in float32, and no fused kernel takes it with bfloat16 inputs.
        return functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class MapRMSNorm(RMSNorm):
    """Root mean square normalization of each position of a map over its channels."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the map, with mean square 1 over C at each position, then scaled."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(math.gcd(channels, MAX_GROUPS), channels),
    "layer": MapLayerNorm,
    "rms": MapRMSNorm,
    "none": lambda _: nn.Identity(),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # In place, which saves a pass over a large map: the layer before (a normalization, a sum, a
    # linear layer) keeps its input for the backward pass, not its output.
    "relu": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def normalisation(name: str, channels: int) -> nn.Module:
    """Return the normalization of that name for maps with this number of channels.

    Raises:
        UnbuildableError: No normalisation has this name.
    """
    check_name("normalisation", name, NORMALIZATIONS)
    return NORMALIZATIONS[name](channels)


def activation(name: str) -> nn.Module:
    """Return the activation of that name.

    Raises:
        UnbuildableError: No activation has this name.
    """
    check_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
