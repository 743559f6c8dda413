"""Laws that a network's answers should obey: loss terms made of a user's function.

A law is written in the data's own units, as what is left over where it does not hold:

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

# B batch, V numbers foretold

Residual = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""What is left over of a law, of any shape, from the inputs by stream and the outputs (B, V), all
in the data's units."""
Kind = Literal["equal", "at_most"]
"""Whether what is left over should be zero, or at most zero."""


class Law(nn.Module):
    """The mean square of what is left over of a law, as far as it should not be there."""

    def __init__(self, residual: Residual, kind: Kind) -> None:
        super().__init__()
        self.residual = residual
        self.kind = kind

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The mean over all that the function gives, a scalar.

        Raises:
            ValueError: The function gives what is no tensor, or nothing.
        """
        inputs = {name: values.float() for name, values in batch.raw.items()}
        left = self.residual(inputs, batch.target_scaler.values(output.values_BV))
        if not isinstance(left, Tensor) or left.numel() == 0:
            raise ValueError(f"a law must give a tensor that holds something, not {left!r}")
        if output.values_BV.requires_grad and not left.requires_grad:
            raise ValueError("a law must follow from the outputs, not from the inputs alone")
        over = left.clamp_min(0) if self.kind == "at_most" else left
        return over.square().mean()


def law(name: str, *, kind: Kind = "equal") -> Callable[[Residual], Residual]:
    """Register the function that follows as the loss term of this name.

    Args:
        name: Name of the term.
        kind: `equal`: what it gives should be zero, for a conserved quantity or values at a
            boundary; `at_most`: it should not exceed zero, for a bounded one.

    Raises:
        DuplicateNameError: The name is taken.
    """

    def register(residual: Residual) -> Residual:
        loss_term(name, needs=("values",))(lambda: Law(residual, kind))
        return residual

    return register


def rising(name: str, *, stream: str, feature: int, value: int = 0, sign: int = 1) -> None:
    """Register a term for a number that may only rise with a feature of the inputs.

    Its slope is that of the network at the batch's examples; where it has the wrong sign, its
    square counts.

    Args:
        name: Name of the term.
        stream: The input that holds the feature.
        feature: Position of the feature in the second dimension.
        value: Position of the number among those foretold.
        sign: 1 to rise, -1 to fall.

    Raises:
        DuplicateNameError: The name is taken.
    """
    loss_term(name, needs=("values", "input_gradients"))(
        lambda: Rising(stream, feature, value, sign)
    )


class Rising(nn.Module):
    """The mean square of slopes that have the wrong sign."""

    def __init__(self, stream: str, feature: int, value: int, sign: int) -> None:
        super().__init__()
        self.stream, self.feature, self.value, self.sign = stream, feature, value, sign

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The mean over the batch, a scalar; slopes in deviations by deviation."""
        told = output.values_BV[:, self.value].sum()
        (slopes,) = torch.autograd.grad(told, batch.inputs[self.stream], create_graph=True)
        return (-self.sign * slopes[:, self.feature]).clamp_min(0).square().mean()


@loss_term("wave", needs=("values",))
class Wave(nn.Module):
    """The mean of abs(sin) of the numbers foretold: least where they are multiples of pi."""

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The mean over batch and numbers, a scalar; numbers in the data's units."""
        return batch.target_scaler.values(output.values_BV).sin().abs().mean()
