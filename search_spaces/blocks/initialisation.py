"""How weights start: one rule for every convolution and linear layer of a network."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import nn

from search_spaces.blocks.block import check_name

Layer = nn.Conv1d | nn.Conv2d | nn.Linear
"""What the rules apply to."""


def _he(layer: Layer) -> None:
    # Fan-in keeps depthwise convolutions in range, whose fan-out is counted over all groups.
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")


def _xavier(layer: Layer) -> None:
    # Torch's own rule counts a depthwise convolution's fan-out over all groups: far too small.
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    fan_in = layer.weight[0].numel()
    fan_out = layer.weight[:, 0].numel() / groups
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (fan_in + fan_out)))


def _truncated_normal(layer: Layer) -> None:
    nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)


INITIALISATIONS: dict[str, Callable[[Layer], None]] = {
    "he": _he,
    "xavier": _xavier,
    "truncated_normal": _truncated_normal,
}
"""He et al. 2015 for rectifiers; Glorot and Bengio 2010, normal, for symmetric activations; a
normal of deviation 0.02 cut at twice that, as for ViT."""


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
        if isinstance(module, Layer):
            INITIALISATIONS[name](module)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, OwnStart):
            module.start()
