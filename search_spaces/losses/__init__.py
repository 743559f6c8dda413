"""Loss terms, one a file, and the mixture that a candidate's weights make of them.

Importing this package registers the terms that ship with it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from search_spaces.loss_weights import TERMS, LossWeights, Output
from search_spaces.losses.auxiliary import Auxiliary
from search_spaces.losses.cross_entropy import CrossEntropy
from search_spaces.losses.focal import Focal
from search_spaces.losses.supervised_contrastive import SupervisedContrastive
from search_spaces.model_output import Batch, ModelOutput

__all__ = [
    "Auxiliary",
    "CrossEntropy",
    "Focal",
    "LossValue",
    "MixedLoss",
    "SupervisedContrastive",
    "build",
]


class LossValue(NamedTuple):
    """What a mixture gives for one batch."""

    total: Tensor
    """The weighted sum, a scalar: what is minimised."""
    terms: Mapping[str, Tensor]
    """Each term by name, a scalar without its weight, detached."""
    main: Tensor
    """The main term without its weight, detached: what the metric `loss` reports."""


class MixedLoss(nn.Module):
    """A weighted sum of loss terms, its weights summing to one."""

    def __init__(self, terms: Mapping[str, nn.Module], shares: Mapping[str, float], main: str):
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.shares = dict(shares)
        """The weights by name."""
        self.main = main
        """Name of the main term."""

    @property
    def needs(self) -> frozenset[Output]:
        """What of the network's output is read; `auxiliary` asks for auxiliary heads."""
        return frozenset[Output]().union(*(TERMS[name].needs for name in self.shares))

    def forward(self, output: ModelOutput, batch: Batch) -> LossValue:
        """The loss of a batch."""
        values = {name: term(output, batch) for name, term in self.terms.items()}
        total = torch.stack([values[name] * share for name, share in self.shares.items()]).sum()
        detached = {name: value.detach() for name, value in values.items()}
        return LossValue(total=total, terms=detached, main=detached[self.main])


def build(weights: LossWeights) -> MixedLoss:
    """The module that computes a candidate's loss; terms without weight are left out.

    Raises:
        UnknownNameError: A term is not registered.
        ValueError: A term has no such option.
    """
    shares = weights.shares()
    return MixedLoss({name: _term(name, weights) for name in shares}, shares, weights.main)


def _term(name: str, weights: LossWeights) -> nn.Module:
    options = weights.terms[name].options
    try:
        term: nn.Module = TERMS[name].make(**options)
    except TypeError as error:
        raise ValueError(f"losses.terms.{name}: {error}") from error
    return term
