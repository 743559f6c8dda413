"""A deadline, to be checked before each step of work that may be cut short."""

from dataclasses import dataclass, field
from typing import Self

from orchestrator.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """Time until which work may go on."""

    ends: float
    """Monotonic time of the clock, in seconds, at which it has passed."""
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def after(cls, seconds: float, clock: Clock | None = None) -> Self:
        """Return the deadline that many seconds from now."""
        clock = clock or SystemClock()
        return cls(ends=clock.monotonic() + seconds, clock=clock)

    @property
    def left_s(self) -> float:
        """Seconds left; at least 0."""
        return max(0.0, self.ends - self.clock.monotonic())

    def share(self, share: float) -> "Deadline":
        """Return the deadline after this share of the time left."""
        return Deadline.after(self.left_s * share, self.clock)

    def at_most(self, seconds: float) -> "Deadline":
        """Return the deadline after that many seconds, or this one if it is earlier."""
        return Deadline.after(min(seconds, self.left_s), self.clock)
