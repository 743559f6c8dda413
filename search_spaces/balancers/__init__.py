"""Balancers: adapt the weights of loss terms during training.

A balancer gets the losses on a common scale, backpropagates them with its weights, and returns the
weights. One family per file.
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
    """Backpropagates several losses; a module, so that checkpoints contain its state."""

    runs: bool
    """Divide terms by their running scale; else by their initial scale, for methods that follow the
    decrease of the losses."""

    def backward(self, losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
        """Add the gradient of the weighted sum to that of the parameters.

        Args:
            losses: One scalar per term, on a common scale.
            parameters: All trainable parameters: of the network, the terms and the balancer.

        Returns:
            The weight of each term, shape (K,), detached.
        """
        ...

    def end_epoch(self, means_K: Tensor) -> None:
        """Update the state with each term's mean over an epoch, unscaled."""
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
"""Factories by name; each takes the decided weights, which sum to one."""


def make(name: BalancerName, initial_weights_K: Tensor) -> Balancer:
    """Return the balancer of this name for weights that sum to one."""
    return BALANCERS[name](initial_weights_K)
