"""Running scales of loss terms, so that weights have the same meaning for every network."""

import torch
from torch import Tensor, nn

# K terms

EMA_DECAY = 0.98
"""Decay of the running mean per step: an average over about fifty steps."""
WARMUP_STEPS = 10
"""Steps for which a term must have been measured before it counts: bounds and margins start near
zero, and dividing by almost nothing would make them dominate."""
KNOWN_SHARE = 0.1
"""Maximum fraction of all steps for this warm-up, so that it ends before a short training does."""
FREEZE_AFTER = 50
"""Steps after which a scale that does not follow its term is frozen."""
FLOOR = 0.01
"""Minimum of a scale relative to its maximum so far: a term that is almost solved would otherwise
be amplified until its noise dominates."""


class Scale(nn.Module):
    """The scale of each term, a running mean of its absolute value, relative to the main term."""

    mean_K: Tensor
    largest_K: Tensor
    steps_K: Tensor

    def __init__(self, count: int, main: int) -> None:
        super().__init__()
        self.main = main
        """Index of the main term."""
        self.known = WARMUP_STEPS
        """Steps for which a term must have been measured before it counts."""
        self.register_buffer("mean_K", torch.zeros(count))
        self.register_buffer("largest_K", torch.zeros(count))
        self.register_buffer("steps_K", torch.zeros(count))

    def expect_steps(self, steps: int) -> None:
        """Set the number of steps of the whole training."""
        self.known = max(2, min(WARMUP_STEPS, round(KNOWN_SHARE * steps)))

    def forward(self, values_K: Tensor, *, runs: bool) -> Tensor:
        """Update the scales by one step, and return the factors to the main term's, shape (K,).

        The main term's factor is 1; that of a term with an unknown scale is 0.

        Args:
            values_K: Values of the terms; zeros are skipped, since they say nothing about a term's
                scale, such as a contrastive term in a batch without a pair.
            runs: Update the scales throughout training, or else until `FREEZE_AFTER` steps.
        """
        sizes_K = values_K.abs()
        told_K = sizes_K > 0
        if not runs:
            told_K &= self.steps_K < FREEZE_AFTER
        self.steps_K += told_K
        moved_K = self.mean_K * EMA_DECAY + sizes_K * (1 - EMA_DECAY)
        self.mean_K.copy_(torch.where(told_K, moved_K, self.mean_K))
        # Bias correction: the running mean started at zero.
        running_K = self.mean_K / (1 - EMA_DECAY**self.steps_K).clamp_min(1e-12)
        self.largest_K.copy_(torch.maximum(self.largest_K, running_K))
        followed_K = torch.maximum(running_K, FLOOR * self.largest_K)
        known_K = self.steps_K >= self.known
        factors_K = torch.where(known_K, followed_K[self.main] / followed_K, 0.0)
        factors_K[self.main] = 1.0
        return factors_K
