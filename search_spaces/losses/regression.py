"""Regression losses: squared error, Huber loss and quantile loss.

All are computed on standardized targets, so that targets in any unit have the same weight.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.domains import FloatRange
from search_spaces.loss_terms import loss_term
from search_spaces.model_output import Batch, ModelOutput


@loss_term("mse", needs=("values",))
class SquaredError(nn.Module):
    """Mean squared error: predicts the mean."""

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over batch and targets, a scalar."""
        return functional.mse_loss(output.values_BV, batch.values_BV)


@loss_term(
    "huber", needs=("values",), options={"delta": FloatRange(0.25, 2.0, step=0.25, initial=1.0)}
)
class Huber(nn.Module):
    """Huber loss: squared near zero, linear beyond `delta`, robust to outliers (Huber 1964)."""

    def __init__(self, *, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over batch and targets, a scalar."""
        return functional.huber_loss(output.values_BV, batch.values_BV, delta=self.delta)


@loss_term(
    "quantile", needs=("values",), options={"quantile": FloatRange(0.1, 0.9, step=0.1, initial=0.5)}
)
class Quantile(nn.Module):
    """Pinball loss: predicts a quantile; 0.5 is the median (Koenker and Bassett 1978)."""

    def __init__(self, *, quantile: float = 0.5) -> None:
        super().__init__()
        self.quantile = quantile

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over batch and targets, a scalar."""
        short_BV = batch.values_BV - output.values_BV
        return torch.maximum(self.quantile * short_BV, (self.quantile - 1) * short_BV).mean()
