"""The running average of a network's weights, which is judged and promoted in their place.

Knows networks; neither data nor recipes.
"""

import copy
from collections.abc import Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

UPDATES = "num_updates"
"""Name of the count of updates among what is remembered; no network has a weight of that name."""


class WeightEMA:
    """A network beside its exponential moving average (Polyak and Juditsky 1992).

    The decay rises to the recipe's as min(decay, (1 + n) / (10 + n)) with the updates n so far, as
    TensorFlow's ExponentialMovingAverage does: an average that is judged after a few hundred steps
    must not hold the first weights still. Floating-point buffers are averaged too: normalisation's
    statistics then belong to the averaged weights. All other buffers are copied: an index between
    two indices is none.
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        self.network = network
        """What is trained."""
        self._decay = decay
        self._updates = 0
        self._averaged = None if decay is None else _copied(network)

    @property
    def judged(self) -> nn.Module:
        """What is evaluated and kept: the average, or the network itself."""
        return self.network if self._averaged is None else self._averaged

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average a little after a step of the optimizer; the first one copies."""
        if self._averaged is None or self._decay is None:
            return
        averaged: list[Tensor] = []
        latest: list[Tensor] = []
        for mine, theirs in zip(_tensors(self._averaged), _tensors(self.network), strict=True):
            if mine.is_floating_point():
                averaged.append(mine)
                latest.append(theirs)
            else:
                mine.copy_(theirs)
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        if averaged:
            torch._foreach_lerp_(averaged, latest, 1 - decay if self._updates else 1.0)
        self._updates += 1

    def memory(self) -> dict[str, Tensor]:
        """The weights that are trained, where others are judged, and the count of updates."""
        if self._averaged is None:
            return {}
        return {**self.network.state_dict(), UPDATES: torch.tensor(self._updates)}

    def remember(self, judged: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> None:
        """Take up what `judged` held and what `memory` gave."""
        self.judged.load_state_dict(judged)
        if self._averaged is not None:
            weights = dict(trained)
            self._updates = int(weights.pop(UPDATES))
            self.network.load_state_dict(weights)


def _copied(network: nn.Module) -> nn.Module:
    """A copy that nobody trains."""
    copied = copy.deepcopy(network).requires_grad_(False)
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):
            # A deep copy scatters the weights that cuDNN wants in one piece of memory.
            module.flatten_parameters()
    return copied


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())
