"""Snapshot of a running study, for engines and displays."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Instruction to an attempt after a measurement."""

    CONTINUE = "continue"
    """Continue training."""
    STOP = "stop"
    """Stop; `StudyDriver.tell` records the reason."""
    PAUSE = "pause"
    """Drop the attempt and call `StudyDriver.requeue`: a rung did not promote its trial yet, or the
    study is stopping. The worker may take another job unless the study is stopping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTrial:
    """A running trial."""

    number: int
    describe: str
    """Architecture in one line."""
    epoch: int
    """Epochs measured so far."""
    rung: int
    """Fidelity of its next rung."""
    metric: float | None
    """Last value of the judged metric; None before the first epoch."""
    elapsed_s: float
    """Seconds since its attempt started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """State of a study at one moment, for display."""

    counts: Mapping[str, int]
    """Trials by state name, without duplicates and confirmations."""
    infeasible: int
    """Trials rejected before training."""
    counted: int
    """Trials of kind `search` that started an attempt; `stop.trials` limits them."""
    trials: int | None
    """`stop.trials`."""
    hours: float | None
    """`stop.hours`."""
    spent_s: float
    """Search time in seconds, over all resumes."""
    running: tuple[RunningTrial, ...]
    """Running trials, by number."""
    judged_metric: str | None
    """Metric by which rungs compare trials."""
    best_number: int | None
    """Number of the best complete trial."""
    best_values: tuple[float, ...] | None
    """Its objective values."""
    best_describe: str | None
    """Architecture in one line."""
    epochs: int
    """Measurements recorded, over all trials."""
    stop_reason: str | None
    """Reason why nothing new starts; None while the search continues."""
    confirmations: int = 0
    """Confirmations that have ended."""
    rejected: int = 0
    """Candidates that the constraints rejected since the last feasible one."""
    rejected_s: float = 0.0
    """Seconds since the first of them."""

    @property
    def searching(self) -> int:
        """Running trials of the search."""
        return self.counts.get("RUNNING", 0)

    @property
    def confirming(self) -> int:
        """Running confirmations."""
        return max(0, len(self.running) - self.searching)
