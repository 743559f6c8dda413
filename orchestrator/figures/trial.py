"""Figures of one trial in MLflow: its architecture and its learning curves.

Based on ledger rows, because events carry neither candidates nor whole curves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.figures.architecture import Shapes, diagram
from orchestrator.figures.curves import learning_curve, loss_curves
from orchestrator.trial import Trial
from search_spaces.task import Task

ARCHITECTURE = "architecture.svg"
LEARNING_CURVE = "learning_curve.svg"
LOSS_TERMS = "loss_terms.svg"


class TrialFigures:
    """SVG figures of a study's trials, by file name."""

    def __init__(
        self, get_trial: Callable[[int], Trial], task: Task | None, metrics: Sequence[str]
    ) -> None:
        """Keep where trials come from; nothing is read yet.

        Args:
            get_trial: Returns the trial of a number.
            task: Inputs and outputs of the networks; None if unknown.
            metrics: Metrics of the objectives; their curves come first.
        """
        self._get_trial = get_trial
        self._task = task
        self._metrics = tuple(metrics)

    def before_training(self, number: int, shapes: Shapes) -> Mapping[str, str]:
        """Return the drawing of the architecture, if the candidate has one.

        Args:
            number: The trial's.
            shapes: Output shapes of the network's parts, by name; empty if unknown.
        """
        drawing = _architecture(self._get_trial(number).candidate, shapes, self._task)
        return {} if drawing is None else {ARCHITECTURE: drawing}

    def after_training(self, number: int) -> Mapping[str, str]:
        """Return the curves of the trial's measurements, as far as there are any."""
        measurements = self._get_trial(number).measurements
        figures = {
            LEARNING_CURVE: learning_curve(measurements, self._metrics),
            LOSS_TERMS: loss_curves(measurements),
        }
        return {name: figure for name, figure in figures.items() if figure is not None}


def _architecture(candidate: Mapping[str, Any], shapes: Shapes, task: Task | None) -> str | None:
    """Return the drawing; None for a define-by-run space, whose networks are the user's."""
    if "architecture" not in candidate:
        return None
    try:
        return diagram(candidate["architecture"], shapes, task)
    except (KeyError, TypeError, ValueError):
        # A user's own blocks may hold any data; a missing figure must not fail the run.
        return None
