"""Deadline: remaining time that is checked before each step."""

from dataclasses import dataclass, field
from typing import Self

from orchestrator.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A point in time by which work should end."""

    ends: float
    """Monotonic time of the clock, in seconds."""
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def after(cls, seconds: float, clock: Clock | None = None) -> Self:
        """Return the deadline after some seconds from now."""
        clock = clock or SystemClock()
        return cls(ends=clock.monotonic() + seconds, clock=clock)

    @property
    def remaining_s(self) -> float:
        """Remaining seconds; at least 0."""
        return max(0.0, self.ends - self.clock.monotonic())

    def share(self, share: float) -> "Deadline":
        """Return a deadline after a share of the remaining time."""
        return Deadline.after(self.remaining_s * share, self.clock)

    def at_most(self, seconds: float) -> "Deadline":
        """Return a deadline after some seconds, and not after this one."""
        return Deadline.after(min(seconds, self.remaining_s), self.clock)
