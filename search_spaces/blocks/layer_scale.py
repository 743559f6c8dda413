"""Layer scale: a residual branch begins small and finds its size channel by channel."""

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
        """Every channel begins at the same size."""
        nn.init.constant_(self.scale, self.value)

    def forward(self, branch: Tensor) -> Tensor:
        """The branch, scaled."""
        return branch * self.scale


def layer_scale(value: float, *shape: int) -> nn.Module:
    """The scaling that begins at `value`; 0 leaves the branch as it is.

    Args:
        value: Size of every channel at the start.
        shape: What fits the branch's last dimensions: (C,) for tokens, (C, 1, 1) for maps.

    Raises:
        UnbuildableError: A negative value.
    """
    if value < 0:
        raise UnbuildableError(f"layer_scale must not be negative, not {value}")
    return LayerScale(value, *shape) if value else nn.Identity()
