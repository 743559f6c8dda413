"""Balancers: how the weights of a mixture's terms adapt while a network learns.

A balancer is given the terms' losses on one scale and passes their gradients back, each with a
weight; it answers by which. One family a file. Knows no network and no recipe.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from search_spaces.balancers.gradients import (
    ByGradients,
    GradNorm,
    aligned_mtl,
    imtl_g,
    mgda,
    pcgrad,
)
from search_spaces.balancers.values import DynamicAverage, Fixed, Uncertainty
from search_spaces.loss_terms import BalancerName

# K terms

__all__ = ["BALANCERS", "Balancer", "make"]


class Balancer(Protocol):
    """Passes the gradients of several losses back; a module, so that checkpoints keep its state."""

    runs: bool
    """Whether it wants terms divided by their running size, or else by what they were at first:
    a method that follows the fall of the losses would not see it otherwise."""

    def backward(self, losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
        """Add the weighted sum's gradient to the parameters'.

        Args:
            losses: One scalar a term, on one scale.
            parameters: All that learn: the network's, the terms' and the balancer's own.

        Returns:
            The weight that each term had, shape (K,), detached.
        """
        ...

    def end_epoch(self, means_K: Tensor) -> None:
        """Take note of each term's mean over an epoch, as it was measured."""
        ...


BALANCERS: Mapping[BalancerName, Callable[[Tensor], Balancer]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "dwa": DynamicAverage,
    "gradnorm": lambda initial_weights_K: ByGradients(GradNorm(initial_weights_K), runs=False),
    "mgda": lambda _: ByGradients(mgda()),
    "pcgrad": lambda initial_weights_K: ByGradients(pcgrad(initial_weights_K)),
    "imtl_g": lambda _: ByGradients(imtl_g()),
    "aligned_mtl": lambda initial_weights_K: ByGradients(aligned_mtl(initial_weights_K)),
}
"""Each makes a balancer from the decided weights, which sum to one."""


def make(name: BalancerName, initial_weights_K: Tensor) -> Balancer:
    """The balancer of this name for weights that sum to one."""
    return BALANCERS[name](initial_weights_K)
