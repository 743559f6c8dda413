"""The weighted sum of a candidate's loss terms."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from search_spaces.balancers import Balancer, make
from search_spaces.loss_terms import ALLOWED_FOR_MAIN, TERMS, LossWeights, Need
from search_spaces.losses.scale import Scale
from search_spaces.model_output import Batch, ModelOutput

# B batch, K terms


class LossValue(NamedTuple):
    """Values of all terms for one batch."""

    terms: Mapping[str, Tensor]
    """Terms by name, scalars without weight."""
    main: Tensor
    """The main term without weight, detached: reported as the metric `loss`."""

    def mix(self, other: Self, share: float) -> Self:
        """Return `share` of this value plus the rest of another."""
        terms = {
            name: share * value + (1 - share) * other.terms[name]
            for name, value in self.terms.items()
        }
        return type(self)(terms=terms, main=share * self.main + (1 - share) * other.main)


class WeightedLoss(nn.Module):
    """Weighted sum of loss terms on a common scale, so that weights are comparable.

    Each term is divided by its own scale and multiplied by that of the main term; a mixture of one
    term is that term itself. Other terms count as soon as their scale is known.
    """

    def __init__(self, weights: LossWeights, terms: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = weights.normalized_weights()
        """Weights by name; they sum to one."""
        self.main = weights.main
        """Name of the main term."""
        self.scale = Scale(len(self.weights), list(self.weights).index(self.main))
        self.balancer: Balancer = make(weights.balancer, torch.tensor(list(self.weights.values())))
        self.epoch: list[tuple[Tensor, Tensor]] = []
        """Values and weights of the terms, each (K,), for all batches of the current epoch."""

    @property
    def needs(self) -> frozenset[Need]:
        """Inputs that the terms need; `auxiliary` needs auxiliary heads."""
        return frozenset[Need]().union(*(TERMS[name].needs for name in self.weights))

    def forward(self, output: ModelOutput, batch: Batch) -> LossValue:
        """Return the loss of a batch."""
        values = {name: self.terms[name](output, batch) for name in self.weights}
        return LossValue(terms=values, main=values[self.main].detach())

    def backward(self, value: LossValue, parameters: Sequence[nn.Parameter]) -> None:
        """Add the gradient of the weighted sum to that of the parameters.

        Args:
            value: The output of `forward` for the batch.
            parameters: All trainable parameters: those of the network and of this module.
        """
        if len(value.terms) == 1:
            (alone,) = value.terms.values()
            alone.backward()  # type: ignore[no-untyped-call]
            return
        values_K = torch.stack([value.detach() for value in value.terms.values()])
        factors_K = self.scale(values_K, runs=self.balancer.runs)
        losses = [term * factors_K[k] for k, term in enumerate(value.terms.values())]
        weights_K = self.balancer.backward(losses, parameters)
        self.epoch.append((values_K, weights_K * (factors_K > 0)))

    def end_epoch(self) -> dict[str, float]:
        """Return the means over the batches of the epoch, and start the next one.

        Returns:
            With more than one term, `terms/NAME`, the unweighted value of each, and `weights/NAME`,
            its weight, 0 for the steps at which it did not count yet; the weights sum to one.
        """
        if not self.epoch:
            return {}
        values_K, weights_K = (
            torch.stack(column).mean(0) for column in zip(*self.epoch, strict=True)
        )
        self.epoch.clear()
        self.balancer.end_epoch(values_K)
        found: dict[str, float] = {}
        for name, value, part in zip(
            self.weights, values_K.tolist(), (weights_K / weights_K.sum()).tolist(), strict=True
        ):
            found |= {f"terms/{name}": value, f"weights/{name}": part}
        return found


def build(weights: LossWeights) -> WeightedLoss:
    """Return the module of a candidate's loss; terms without weight are omitted.

    Raises:
        UnknownNameError: A term is not registered.
        ValueError: A term has no such option, or the main term cannot be computed in validation.
    """
    if beyond := TERMS[weights.main].needs - ALLOWED_FOR_MAIN:
        raise ValueError(
            f"losses.main: {weights.main!r} needs {', '.join(sorted(beyond))}, which validation "
            "does not have; make it a side term"
        )
    return WeightedLoss(
        weights, {name: _term(name, weights) for name in weights.normalized_weights()}
    )


def _term(name: str, weights: LossWeights) -> nn.Module:
    options = weights.terms[name].options
    try:
        term: nn.Module = TERMS[name].make(**options)
    except TypeError as error:
        raise ValueError(f"losses.terms.{name}: {error}") from error
    return term
