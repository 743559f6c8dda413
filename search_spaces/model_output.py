"""Inputs and outputs of networks and loss terms: ModelOutput, Batch and TargetScaler."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

# B batch, K classes, V regression targets, D embedding width, G gate values

NOTHING = torch.empty(0, 0)
"""Default of the fields that a network, or a data set, does not have."""
NO_CLASSES = torch.empty(0, dtype=torch.int64)


class ModelOutput(NamedTuple):
    """Outputs of one forward pass over a batch."""

    logits_BK: Tensor = NOTHING
    """Unnormalized class scores; empty without classes."""
    embedding_BD: Tensor = NOTHING
    """Features that the main head reads."""
    auxiliary: tuple[Tensor, ...] = ()
    """Unnormalized scores of auxiliary heads, each (B, K); empty where there are none."""
    values_BV: Tensor = NOTHING
    """Predicted regression targets, standardized like the targets; empty where there are none."""
    towers: tuple[Tensor, ...] = ()
    """L2-normalized embedding of each stream of a two-tower network, each (B, D)."""
    gates: tuple[Tensor, ...] = ()
    """Weight of the convolution in each gate, each (B, G), between 0 and 1, with its gradient; for
    a hard gate, the value before rounding."""


class TargetScaler(NamedTuple):
    """Converts standardized regression targets to the data's own units."""

    values_mean_V: Tensor = NOTHING
    """Mean of each target over the training split."""
    values_deviation_V: Tensor = NOTHING
    """Per-target standard deviation over the training split."""

    def values(self, standardised_BV: Tensor) -> Tensor:
        """Return targets in the data's units, shape (B, V)."""
        return standardised_BV * self.values_deviation_V + self.values_mean_V


class Batch(NamedTuple):
    """A batch of examples: the network's inputs, and everything a loss term may need."""

    inputs: Mapping[str, Tensor] = {}
    """Network inputs by stream: normalized, batch first."""
    targets_B: Tensor = NO_CLASSES
    """Class indices; all zero without classes."""
    values_BV: Tensor = NOTHING
    """Regression targets, standardized over the training split."""
    raw: Mapping[str, Tensor] = {}
    """Inputs by stream in the data's own units."""
    target_scaler: TargetScaler = TargetScaler()
    """Converts targets to the data's units."""
    second_view: Mapping[str, Tensor] = {}
    """Inputs by stream of a second view, augmented independently, if a term needs it."""
    view: ModelOutput | None = None
    """The network's output for the second view, if a term needs it."""
    teacher: ModelOutput | None = None
    """A teacher's output for the same examples, if a term needs it."""
