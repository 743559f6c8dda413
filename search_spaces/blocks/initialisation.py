"""Weight initialisation: one rule for every convolution and linear layer of a network."""

import math
from collections.abc import Callable

from torch import nn

from search_spaces.blocks.block import check_name

Layer = nn.Conv1d | nn.Conv2d | nn.Linear
"""Layers that the rules apply to."""


def _he(layer: Layer) -> None:
    # torch counts the fan-out of a depthwise convolution over all groups; its fan-in is right.
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")


def _xavier(layer: Layer) -> None:
    # torch counts a depthwise convolution's fan-out over all groups: weights would be too small.
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
"""`he`: He et al. 2015, for rectifiers. `xavier`: Glorot and Bengio 2010, normal, for symmetric
activations. `truncated_normal`: standard deviation 0.02, truncated at twice that, as for ViT."""


def initialize(network: nn.Module, name: str) -> None:
    """Initialize every convolution and linear layer by the rule, and their biases to zero.

    A module of ours or of the user's that has a `reset_parameters` method sets its own weights
    afterwards; those of torch's modules are not called.

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
        reset = getattr(type(module), "reset_parameters", None)
        if reset is not None and not reset.__module__.startswith("torch."):
            reset(module)
