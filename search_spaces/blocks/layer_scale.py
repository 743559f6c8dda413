"""Layer scale: learned scaling of a residual branch per channel, from a small initial value."""

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import UnbuildableError


class LayerScale(nn.Module):
    """Multiplies each channel by a learned number (Touvron et al. 2021)."""

    def __init__(self, value: float, *shape: int) -> None:
        super().__init__()
        self.value = value
        self.scale = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every channel to the initial value."""
        nn.init.constant_(self.scale, self.value)

    def forward(self, branch: Tensor) -> Tensor:
        """Return the scaled branch."""
        return branch * self.scale


def layer_scale(value: float, *shape: int) -> nn.Module:
    """Return the scaling with this initial value; the identity for 0.

    Args:
        value: Initial scale of every channel.
        shape: Shape that broadcasts to the branch: (C,) for tokens, (C, 1, 1) for maps.

    Raises:
        UnbuildableError: The value is negative.
    """
    if value < 0:
        raise UnbuildableError(f"layer_scale must not be negative, not {value}")
    return LayerScale(value, *shape) if value else nn.Identity()
