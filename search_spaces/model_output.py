"""What a network's forward pass gives: where blocks, loss terms and trainers meet."""

from typing import NamedTuple

from torch import Tensor

# B batch, K classes, D embedding width


class ModelOutput(NamedTuple):
    """The outputs of one forward pass over a batch."""

    logits_BK: Tensor
    """Unnormalised scores of the main head, shape (B, K)."""
    embedding_BD: Tensor
    """The features that the main head reads, shape (B, D)."""
    auxiliary: tuple[Tensor, ...] = ()
    """Unnormalised scores of auxiliary heads, each of shape (B, K); empty where there are none."""
