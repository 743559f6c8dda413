"""Weighted sum of loss terms that a candidate's weights define."""

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
    """What a mixture gives for one batch."""

    terms: Mapping[str, Tensor]
    """Each term by name, a scalar without its weight."""
    main: Tensor
    """The main term without its weight, detached: what the metric `loss` reports."""

    def mix(self, other: Self, share: float) -> Self:
        """This value and another, in the proportion of `share` to the rest."""
        terms = {
            name: share * value + (1 - share) * other.terms[name]
            for name, value in self.terms.items()
        }
        return type(self)(terms=terms, main=share * self.main + (1 - share) * other.main)


class WeightedLoss(nn.Module):
    """A weighted sum of loss terms, brought to one scale: a weight means the same everywhere.

    Each term counts divided by its own size and multiplied by the main term's, so that a mixture
    of one term is that term itself. The others join as soon as their sizes are known.
    """

    def __init__(self, weights: LossWeights, terms: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = weights.normalized_weights()
        """The decided weights by name; they sum to one."""
        self.main = weights.main
        """Name of the main term."""
        self.scale = Scale(len(self.weights), list(self.weights).index(self.main))
        self.balancer: Balancer = make(weights.balancer, torch.tensor(list(self.weights.values())))
        self.epoch: list[tuple[Tensor, Tensor]] = []
        """Values and weights of the terms, each (K,), for every batch of the epoch under way."""

    @property
    def needs(self) -> frozenset[Need]:
        """What the terms read; `auxiliary` asks for auxiliary heads."""
        return frozenset[Need]().union(*(TERMS[name].needs for name in self.weights))

    def forward(self, output: ModelOutput, batch: Batch) -> LossValue:
        """The loss of a batch."""
        values = {name: self.terms[name](output, batch) for name in self.weights}
        return LossValue(terms=values, main=values[self.main].detach())

    def backward(self, value: LossValue, parameters: Sequence[nn.Parameter]) -> None:
        """Add the gradient of the weighted sum to the parameters'.

        Args:
            value: What `forward` gave for the batch.
            parameters: All that learn: the network's and this module's.
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
        """What the epoch's batches came to on average, and a beginning for the next.

        Returns:
            Where there is more than one term, by name `terms/NAME` its value as measured, and
            `weights/NAME` its weight beside the others, 0 for the steps at which it did not count
            yet; these sum to one.
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
    """The module that computes a candidate's loss; terms without weight are left out.

    Raises:
        UnknownNameError: A term is not registered.
        ValueError: A term has no such option, or the main one cannot be measured by itself.
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
