"""Drop path: a residual branch left out for some examples of a batch."""

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import UnbuildableError


class DropPath(nn.Module):
    """Drops a branch for a random share of examples in training and scales up the others.

    The expectation stays what the branch gives; in evaluation nothing happens (Huang et al. 2016,
    "Deep Networks with Stochastic Depth").
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UnbuildableError(f"drop_path must be at least 0 and below 1, not {rate}")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """The branch, batch first, zero for the dropped examples."""
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(branch.shape[0], *[1] * (branch.dim() - 1), device=branch.device)
        return branch * ((kept >= self.rate).to(branch.dtype) / (1 - self.rate))
