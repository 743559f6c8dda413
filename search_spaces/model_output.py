"""What networks give and what they are judged by: where blocks, loss terms and trainers meet."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

# B batch, K classes, V numbers to be told, D embedding width, G gate values

NOTHING = torch.empty(0, 0)
"""Stands where a network, or a data set, has no such part."""
NO_CLASSES = torch.empty(0, dtype=torch.int64)


class ModelOutput(NamedTuple):
    """The outputs of one forward pass over a batch."""

    logits_BK: Tensor = NOTHING
    """Unnormalised scores of the classes; empty where nothing is classified."""
    embedding_BD: Tensor = NOTHING
    """The features that the main head reads."""
    auxiliary: tuple[Tensor, ...] = ()
    """Unnormalised scores of auxiliary heads, each of shape (B, K); empty where there are none."""
    values_BV: Tensor = NOTHING
    """The numbers foretold, standardised as the targets are; empty where there are none."""
    towers: tuple[Tensor, ...] = ()
    """Of a two-tower network each stream's embedding, of shape (B, D) and length 1."""
    gates: tuple[Tensor, ...] = ()
    """How far the convolution led in each gate, each of shape (B, G), between 0 and 1, with its
    gradient; a hard gate's value before it was rounded."""


class TargetScaler(NamedTuple):
    """The way back from what a network reads and gives to the data's own units."""

    values_mean_V: Tensor = NOTHING
    """Mean of each number over the training part."""
    values_deviation_V: Tensor = NOTHING
    """Deviation of each number over the training part."""

    def values(self, standardised_BV: Tensor) -> Tensor:
        """Numbers in the data's units, of shape (B, V)."""
        return standardised_BV * self.values_deviation_V + self.values_mean_V


class Batch(NamedTuple):
    """Some examples: what a network reads, and what a loss term may know beside its output."""

    inputs: Mapping[str, Tensor] = {}
    """By stream, what the network reads: normalised, the batch first."""
    targets_B: Tensor = NO_CLASSES
    """Class indices; all zero where nothing is classified."""
    values_BV: Tensor = NOTHING
    """Numbers to be foretold, of mean 0 and deviation 1 over the training part."""
    raw: Mapping[str, Tensor] = {}
    """By stream, the same examples in the data's own units."""
    target_scaler: TargetScaler = TargetScaler()
    """How numbers go back to the data's units."""
    second_view: Mapping[str, Tensor] = {}
    """By stream, the same examples augmented otherwise, where a term asks for a second view."""
    view: ModelOutput | None = None
    """What the network gives for the same examples augmented otherwise, where a term asks."""
    teacher: ModelOutput | None = None
    """What a teacher gives for the same examples, where a term asks for it."""
