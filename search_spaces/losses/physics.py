"""Physical laws as loss terms, made of a user's function.

The function returns the residual of a law in the data's own units:

    @law("energy")
    def energy(inputs, outputs):            # tensors by stream, and (B, V)
        return total(outputs) - total(inputs["state"])

losses = loss_domain(main=("mse",), side=("energy",))
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from search_spaces.loss_terms import loss_term
from search_spaces.model_output import Batch, ModelOutput

# B batch, V regression targets

Residual = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Residual of a law, of any shape, from the inputs by stream and the outputs (B, V), all in the
data's units."""
Kind = Literal["equal", "at_most"]
"""`equal`: the residual should be zero; `at_most`: it should not be positive."""


class Law(nn.Module):
    """Mean squared residual of a law; for `at_most`, of its positive part."""

    def __init__(self, residual: Residual, kind: Kind) -> None:
        super().__init__()
        self.residual = residual
        self.kind = kind

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over the residual, a scalar.

        Raises:
            ValueError: The residual is no tensor, is empty, or does not depend on the outputs.
        """
        inputs = {name: values.float() for name, values in batch.raw.items()}
        left = self.residual(inputs, batch.target_scaler.values(output.values_BV))
        if not isinstance(left, Tensor) or left.numel() == 0:
            raise ValueError(f"a law must return a non-empty tensor, not {left!r}")
        if output.values_BV.requires_grad and not left.requires_grad:
            raise ValueError("a law must depend on the outputs, not on the inputs alone")
        over = left.clamp_min(0) if self.kind == "at_most" else left
        return over.square().mean()


def law(name: str, *, kind: Kind = "equal") -> Callable[[Residual], Residual]:
    """Register a function as the loss term of this name; a decorator.

    Args:
        name: Name of the term.
        kind: `equal`: the residual should be zero, for a conserved quantity or boundary values;
            `at_most`: it should not be positive, for a bounded quantity.

    Raises:
        DuplicateNameError: The name is taken.
    """

    def register(residual: Residual) -> Residual:
        loss_term(name, needs=("values",))(lambda: Law(residual, kind))
        return residual

    return register


def rising(name: str, *, stream: str, feature: int, value: int = 0, sign: int = 1) -> None:
    """Register a term for a target that is monotonic in a feature of the inputs.

    It is the mean square of the gradient with respect to the feature at the examples of the batch,
    where it has the wrong sign.

    Args:
        name: Name of the term.
        stream: Input stream with the feature.
        feature: Index of the feature in the second dimension.
        value: Index of the regression target.
        sign: 1 to increase, -1 to decrease.

    Raises:
        DuplicateNameError: The name is taken.
    """
    loss_term(name, needs=("values", "input_gradients"))(
        lambda: Rising(stream, feature, value, sign)
    )


class Rising(nn.Module):
    """Mean square of gradients with respect to the inputs that have the wrong sign."""

    def __init__(self, stream: str, feature: int, value: int, sign: int) -> None:
        super().__init__()
        self.stream, self.feature, self.value, self.sign = stream, feature, value, sign

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over the batch, a scalar, for standardized targets and inputs."""
        summed = output.values_BV[:, self.value].sum()
        (gradients,) = torch.autograd.grad(summed, batch.inputs[self.stream], create_graph=True)
        return (-self.sign * gradients[:, self.feature]).clamp_min(0).square().mean()


@loss_term("wave", needs=("values",))
class Wave(nn.Module):
    """Mean of abs(sin) of the predicted targets: 0 at multiples of pi."""

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over batch and targets, a scalar, for targets in the data's units."""
        return batch.target_scaler.values(output.values_BV).sin().abs().mean()
