"""How large each term of a mixture is, so that weights mean the same for every network."""

import torch
from torch import Tensor, nn

# K terms

EMA_DECAY = 0.98
"""Share of a running mean that stays at every step: it looks back over about fifty."""
WARMUP_STEPS = 10
"""Steps at which a term must have been seen before it counts: bounds and margins begin near zero,
and what is divided by almost nothing would lead all others."""
KNOWN_SHARE = 0.1
"""Share of all steps that this waiting takes at most: a short training must not end before it."""
FREEZE_AFTER = 50
"""Steps after which a size that does not follow its term stays as it is."""
FLOOR = 0.01
"""Of a term's largest size so far: what it counts for at least. A term that is all but solved would
otherwise be blown up until its noise led."""


class Scale(nn.Module):
    """The size of each term, a running mean of its absolute value, beside that of the main term."""

    mean_K: Tensor
    largest_K: Tensor
    steps_K: Tensor

    def __init__(self, count: int, main: int) -> None:
        super().__init__()
        self.main = main
        """Position of the main term."""
        self.known = WARMUP_STEPS
        """Steps at which a term must have been seen before it counts."""
        self.register_buffer("mean_K", torch.zeros(count))
        self.register_buffer("largest_K", torch.zeros(count))
        self.register_buffer("steps_K", torch.zeros(count))

    def expect_steps(self, steps: int) -> None:
        """Set how many steps the whole training takes."""
        self.known = max(2, min(WARMUP_STEPS, round(KNOWN_SHARE * steps)))

    def forward(self, values_K: Tensor, *, runs: bool) -> Tensor:
        """What brings each term to the main one's size after one more step, shape (K,).

        The main term's factor is 1; that of a term whose size is not known yet is 0.

        Args:
            values_K: The terms as measured; a zero tells nothing of a term's size and is passed
                over: a contrastive term without a pair in the batch.
            runs: Whether sizes follow the terms for good, or else until they have settled.
        """
        sizes_K = values_K.abs()
        told_K = sizes_K > 0
        if not runs:
            told_K &= self.steps_K < FREEZE_AFTER
        self.steps_K += told_K
        moved_K = self.mean_K * EMA_DECAY + sizes_K * (1 - EMA_DECAY)
        self.mean_K.copy_(torch.where(told_K, moved_K, self.mean_K))
        # The mean began at zero: it is short by what the first steps could not have added.
        running_K = self.mean_K / (1 - EMA_DECAY**self.steps_K).clamp_min(1e-12)
        self.largest_K.copy_(torch.maximum(self.largest_K, running_K))
        followed_K = torch.maximum(running_K, FLOOR * self.largest_K)
        known_K = self.steps_K >= self.known
        factors_K = torch.where(known_K, followed_K[self.main] / followed_K, 0.0)
        factors_K[self.main] = 1.0
        return factors_K
