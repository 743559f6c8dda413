"""How large each term of a mixture is, so that weights mean the same for every network."""

import torch
from torch import Tensor, nn

# K terms

MEMORY = 0.98
"""Share of a running mean that stays at every step: it looks back over about fifty."""
FLOOR = 0.01
"""Of a term's first size: what it counts for at least. A term that is all but solved would
otherwise be blown up until its noise led."""


class Scale(nn.Module):
    """The size of each term: a running mean of its absolute value."""

    first_K: Tensor
    mean_K: Tensor
    steps: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("first_K", torch.zeros(count))
        self.register_buffer("mean_K", torch.zeros(count))
        self.register_buffer("steps", torch.zeros(count))

    def forward(self, values_K: Tensor, *, runs: bool) -> Tensor:
        """The sizes after one more step, shape (K,), above zero.

        Args:
            values_K: The terms as measured; a zero tells nothing of a term's size and is passed
                over: a contrastive term without a pair in the batch.
            runs: Whether sizes follow the terms, or else stay as they were at first.
        """
        sizes_K = values_K.abs()
        seen_K = sizes_K > 0
        new_K = seen_K & (self.steps == 0)
        self.first_K.copy_(torch.where(new_K, sizes_K, self.first_K))
        self.steps += seen_K
        moved_K = self.mean_K * MEMORY + sizes_K * (1 - MEMORY)
        self.mean_K.copy_(torch.where(seen_K, moved_K, self.mean_K))
        # The mean began at zero: it is short by what the first steps could not have added.
        running_K = self.mean_K / (1 - MEMORY**self.steps).clamp_min(1e-12)
        followed_K = torch.maximum(running_K, FLOOR * self.first_K)
        sizes_K = followed_K if runs else self.first_K
        return torch.where(self.steps == 0, torch.ones_like(sizes_K), sizes_K)
