"""Messages between driver and worker: one job out, one report back for each measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from workers.failures import Failure
from workers.job import TrainingJob
from workers.measurement import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessage:
    """A job for a worker, opaque to Tune."""

    job: TrainingJob
    resources: Mapping[str, float]
    """Number of CPU cores and GPUs, by Ray's names."""
    slots: int = 1
    """Number of slots that it occupies."""
    placement: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of its placement group."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the message itself: it is immutable, and Tune copies configurations often."""
        return self

    def __str__(self) -> str:
        """Return the trial's number, after which Tune names folders."""
        return str(self.job.trial_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Result of one step of a worker."""

    measurement: Measurement | None = None
    """New measurement; None if the step ended without one."""
    ended: bool = False
    """True for the last report of the attempt."""
    failure: Failure | None = None
    """Failure that ended the attempt, if any."""
    should_recycle: bool = False
    """True if the worker's process is to be replaced before another trial."""
