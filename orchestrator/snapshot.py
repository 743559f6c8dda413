"""What the study answers an engine and shows a display; knows no ledger and no terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What an attempt does after a measurement."""

    CONTINUE = "continue"
    """Train on."""
    STOP = "stop"
    """End here; `StudyDriver.tell` knows why."""
    PAUSE = "pause"
    """The study is stopping: drop the attempt and call `StudyDriver.requeue`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTrial:
    """One trial under way."""

    number: int
    describe: str
    """Its architecture in one line."""
    epoch: int
    """Epochs measured so far."""
    rung: int
    """The fidelity at which it is judged next."""
    metric: float | None
    """The judged metric as last measured; None before the first epoch."""
    elapsed_s: float
    """Since its attempt started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The study at one moment, for people."""

    counts: Mapping[str, int]
    """Trials by state name; duplicates are left out."""
    infeasible: int
    """Trials refused before training."""
    counted: int
    """Searched trials that started an attempt: what `stop.trials` limits."""
    trials: int | None
    """`stop.trials`."""
    hours: float | None
    """`stop.hours`."""
    spent_s: float
    """Search time over all resumes."""
    running: tuple[RunningTrial, ...]
    """By number."""
    judged_metric: str | None
    """Name of the metric that rungs judge."""
    best_number: int | None
    """Number of the best complete trial."""
    best_values: tuple[float, ...] | None
    """Its objective values."""
    best_describe: str | None
    """Its architecture in one line."""
    epochs: int
    """Measurements recorded, over all trials."""
    stop_reason: str | None
    """Why nothing new is started, if so."""
    refused: int = 0
    """Candidates that the constraints refused since the last feasible one."""
    refused_s: float = 0.0
    """How long that has taken."""
