"""The running average of a network's weights, which is judged and promoted in their place.

Knows networks; neither data nor recipes.
"""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Averaging:
    """A network beside its exponential moving average (Polyak and Juditsky 1992).

    Buffers are averaged too: normalisation's statistics then belong to the averaged weights.
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        self.network = network
        """What is trained."""
        self._averaged: Any = None
        if decay is not None:
            follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self._averaged = AveragedModel(network, multi_avg_fn=follow, use_buffers=True)

    @property
    def judged(self) -> nn.Module:
        """What is evaluated and kept: the average, or the network itself."""
        averaged = self._averaged
        return self.network if averaged is None else cast("nn.Module", averaged.module)

    def follow(self) -> None:
        """Move the average a little after a step of the optimizer."""
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)

    def memory(self) -> dict[str, Tensor]:
        """The weights that are trained, where others are judged."""
        return {} if self._averaged is None else dict(self.network.state_dict())

    def remember(self, judged: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> None:
        """Take up what `judged` held and what `memory` gave."""
        self.judged.load_state_dict(judged)
        if self._averaged is not None:
            self.network.load_state_dict(trained)
            self._averaged.n_averaged.fill_(1)  # the next update moves it; the first would copy
