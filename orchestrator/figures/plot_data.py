"""Data and style that the Plotly figures of a study have in common."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.objective import Objective
from orchestrator.trial import Trial

BLUE, ORANGE, GRAY = "#2563eb", "#ea580c", "#94a3b8"
PALETTE = (BLUE, ORANGE, "#16a34a", "#9333ea", "#dc2626", "#0891b2")
COLOR_SCALE = "Viridis"
HOVER_XY = "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>"
HOVER_XYZ = "%{text}<br>%{x:.4g}, %{y:.4g}, %{z:.4g}<extra></extra>"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotData:
    """Input of every figure of a study."""

    title: str
    """The study's name."""
    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]
    complete: tuple[Trial, ...]
    """The trials that rank."""
    names: Mapping[str, str]
    """Label of each trial by uid."""
    importances: tuple[Mapping[str, float], ...] = ()
    """Importance of each parameter, by objective; empty if unknown."""

    def hover(self, trials: Iterable[Trial]) -> list[str]:
        """Return the hover text of each trial."""
        return [
            f"<b>{self.names.get(trial.uid, '')}</b><br>trial {trial.number}, "
            f"{trial.state.value.lower()}{_epochs(trial)}{_parameters(trial)}"
            for trial in trials
        ]

    def values(self, index: int) -> list[float]:
        """Return the complete trials' values of the objective at this index."""
        return [(trial.values or ())[index] for trial in self.complete]


def axis_title(objective: Objective) -> str:
    """Return the metric and its direction."""
    better = "higher" if objective.direction == "maximize" else "lower"
    return f"{objective.metric} ({better} is better)"


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the shortest unique suffix of each path: at least two parts, no leading number.

    Examples:
        >>> short_names(["a.stages.0.width", "a.stages.1.width"])["a.stages.0.width"]
        'stages.0.width'
    """
    short = {}
    for name in names:
        parts = name.split(".")
        for count in range(min(2, len(parts)), len(parts) + 1):
            suffix = ".".join(parts[-count:])
            is_clear = not parts[-count].isdigit()
            if is_clear and sum(f".{other}".endswith(f".{suffix}") for other in names) == 1:
                break
        short[name] = suffix
    return short


def _epochs(trial: Trial) -> str:
    return f" after {trial.measurements[-1].fidelity} epochs" if trial.measurements else ""


def _parameters(trial: Trial) -> str:
    size = trial.cost.get("parameters")
    return f"<br>{int(size):,} parameters" if size else ""
