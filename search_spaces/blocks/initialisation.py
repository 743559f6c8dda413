"""How weights start: one rule for every convolution and linear layer of a network."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from search_spaces.blocks.block import check_name


def _he(weight: Tensor) -> None:
    # Fan-in keeps depthwise convolutions in range, whose fan-out is counted over all groups.
    nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")


def _truncated_normal(weight: Tensor) -> None:
    nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


INITIALISATIONS: dict[str, Callable[[Tensor], None]] = {
    "he": _he,
    "truncated_normal": _truncated_normal,
}
"""He et al. 2015 for rectifiers; a normal of deviation 0.02 cut at twice that, as for ViT."""


@runtime_checkable
class OwnStart(Protocol):
    """A module that wants its weights to start otherwise than the network's rule says."""

    def start(self) -> None:
        """Set the weights, after the rule was applied to all."""
        ...


def initialise(network: nn.Module, name: str) -> None:
    """Set every convolution and linear weight by the rule, their biases to zero.

    Raises:
        UnbuildableError: No rule has this name.
    """
    check_name("initialisation", name, INITIALISATIONS)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            INITIALISATIONS[name](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, OwnStart):
            module.start()
