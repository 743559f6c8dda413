"""Stochastic depth (drop path): randomly skip a residual branch per example."""

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import UnbuildableError


class DropPath(nn.Module):
    """Drops a branch for random examples during training and rescales it for the others.

    The expectation equals the branch; in evaluation it is the identity (Huang et al. 2016, "Deep
    Networks with Stochastic Depth").
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UnbuildableError(f"drop_path must be at least 0 and below 1, not {rate}")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch, batch first, with zeros for the dropped examples."""
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(branch.shape[0], *[1] * (branch.dim() - 1), device=branch.device)
        return branch * ((kept >= self.rate).to(branch.dtype) / (1 - self.rate))
