"""The running average of a network's weights, which is judged and promoted in their place.

Knows networks; neither data nor recipes.
"""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

UPDATES = "num_updates"
"""Name of the count of updates among what is remembered; no network has a weight of that name."""


class Averaging:
    """A network beside its exponential moving average (Polyak and Juditsky 1992).

    The decay rises to the recipe's as min(decay, (1 + n) / (10 + n)) with the updates n so far, as
    TensorFlow's ExponentialMovingAverage does: an average that is judged after a few hundred steps
    must not hold the first weights still. Buffers are averaged too: normalisation's statistics then
    belong to the averaged weights.
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        self.network = network
        """What is trained."""
        self._decay = decay
        self._averaged: Any = None
        if decay is not None:
            self._averaged = AveragedModel(network, use_buffers=True)

    @property
    def judged(self) -> nn.Module:
        """What is evaluated and kept: the average, or the network itself."""
        averaged = self._averaged
        return self.network if averaged is None else cast("nn.Module", averaged.module)

    def follow(self) -> None:
        """Move the average a little after a step of the optimizer."""
        if self._averaged is None or self._decay is None:
            return
        updates = int(self._averaged.n_averaged)  # kept on the CPU; the first update copies
        decay = min(self._decay, (1 + updates) / (10 + updates))
        self._averaged.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged.update_parameters(self.network)

    def memory(self) -> dict[str, Tensor]:
        """The weights that are trained, where others are judged, and the count of updates."""
        if self._averaged is None:
            return {}
        return {**self.network.state_dict(), UPDATES: self._averaged.n_averaged}

    def remember(self, judged: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> None:
        """Take up what `judged` held and what `memory` gave."""
        self.judged.load_state_dict(judged)
        if self._averaged is not None:
            weights = dict(trained)
            self._averaged.n_averaged.copy_(weights.pop(UPDATES))
            self.network.load_state_dict(weights)
