"""What driver and worker tell each other: a parcel out, a report back for each measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from workers.failures import Failure
from workers.job import TrainingJob
from workers.measurement import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessage:
    """A job on its way to a worker, opaque to Tune."""

    job: TrainingJob
    """What to train."""
    resources: Mapping[str, float]
    """CPU cores and GPUs to place it with, by Ray's names."""
    slots: int = 1
    """How many usual trials it takes the place of."""
    placement: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of its placement group."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: Tune copies a configuration half a dozen times, and this never changes."""
        return self

    def __str__(self) -> str:
        """The trial's number: Tune names folders after what a configuration prints."""
        return str(self.job.trial_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one step of a worker brought."""

    measurement: Measurement | None = None
    """What was measured, if the step got as far."""
    ended: bool = False
    """Whether the attempt has no more to tell."""
    failure: Failure | None = None
    """Why it ended, where it failed."""
    should_recycle: bool = False
    """Whether the worker's process should not train another trial."""
