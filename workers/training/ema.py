"""Exponential moving average (EMA) of a network's weights, which is evaluated and promoted."""

import copy
from collections.abc import Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

UPDATES = "num_updates"
"""Key of the number of updates in the state; no network has a weight of that name."""


class WeightEMA:
    """A network and the exponential moving average of its weights (Polyak and Juditsky 1992).

    The decay is min(decay, (1 + n) / (10 + n)) after n updates, as in TensorFlow's
    ExponentialMovingAverage: after a few hundred steps the average must not be dominated by the
    initial weights. Floating-point buffers are averaged too, so that normalization statistics
    belong to the averaged weights. Other buffers are copied.

    Examples:
        >>> ema = WeightEMA(nn.Linear(2, 1), decay=0.999)
        >>> ema.update()  # after each optimizer step
        >>> scores = ema.evaluated(torch.zeros(1, 2))
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        self.network = network
        """Network that is trained."""
        self._decay = decay
        self._updates = 0
        self._averaged = None if decay is None else _copy(network)

    @property
    def evaluated(self) -> nn.Module:
        """Network to evaluate and promote: the average, or the network itself without one."""
        return self.network if self._averaged is None else self._averaged

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after an optimizer step; the first call copies the weights."""
        if self._averaged is None or self._decay is None:
            return
        averaged: list[Tensor] = []
        latest: list[Tensor] = []
        for mean, value in zip(_tensors(self._averaged), _tensors(self.network), strict=True):
            if mean.is_floating_point():
                averaged.append(mean)
                latest.append(value)
            else:
                mean.copy_(value)
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        if averaged:
            torch._foreach_lerp_(averaged, latest, 1 - decay if self._updates else 1.0)
        self._updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the evaluated weights under `network.` and, if they differ, the trained ones."""
        state = add_prefix("network.", self.evaluated.state_dict())
        if self._averaged is not None:
            trained = {**self.network.state_dict(), UPDATES: torch.tensor(self._updates)}
            state |= add_prefix("training.", trained)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the tensors of `state_dict`; other keys are ignored."""
        self.evaluated.load_state_dict(select_prefix("network.", state))
        if self._averaged is not None:
            trained = select_prefix("training.", state)
            self._updates = int(trained.pop(UPDATES))
            self.network.load_state_dict(trained)


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with a prefix before each name."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def select_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose name has a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _copy(network: nn.Module) -> nn.Module:
    """Return a copy without gradients."""
    copied = copy.deepcopy(network).requires_grad_(False)
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):
            # A deep copy scatters the weights, which cuDNN needs in contiguous memory.
            module.flatten_parameters()
    return copied


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())
