"""What a trial's run shows as pictures: its network, and how it learned.

Drawn from the ledger's rows, because events carry neither candidates nor whole curves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.figures.architecture import diagram
from orchestrator.figures.curves import learning_curve, loss_curves
from orchestrator.trial import Trial
from search_spaces.task import Task

ARCHITECTURE = "architecture.svg"
CURVE = "learning_curve.svg"
TERMS = "loss_terms.svg"


class Pictures:
    """The pictures of one study's trials, as SVG text by file name."""

    def __init__(
        self, look_up: Callable[[int], Trial], task: Task | None, metrics: Sequence[str]
    ) -> None:
        """Draw nothing yet.

        Args:
            look_up: The trial of a number.
            task: What networks are built for; None where it is not known.
            metrics: What the study is about: the curves shown first.
        """
        self._look_up = look_up
        self._task = task
        self._metrics = tuple(metrics)

    def at_first(self, number: int) -> Mapping[str, str]:
        """What can be seen of a trial before it has begun."""
        drawn = _architecture(self._look_up(number).candidate, self._task)
        return {} if drawn is None else {ARCHITECTURE: drawn}

    def at_last(self, number: int) -> Mapping[str, str]:
        """What can be seen once it has ended."""
        measured = self._look_up(number).measurements
        drawn = {CURVE: learning_curve(measured, self._metrics), TERMS: loss_curves(measured)}
        return {name: picture for name, picture in drawn.items() if picture is not None}


def _architecture(candidate: Mapping[str, Any], task: Task | None) -> str | None:
    """The drawing; None for decisions whose meaning only the user's code knows."""
    if "architecture" not in candidate:
        return None
    try:
        return diagram(candidate["architecture"], task)
    except (KeyError, TypeError, ValueError):
        # A user's own pieces may hold anything; a run without a picture is still a run.
        return None
