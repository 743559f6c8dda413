"""A box of time: whoever works in it looks how much is left before the next step."""

from dataclasses import dataclass, field
from typing import Self

from orchestrator.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """Time that may be spent."""

    ends: float
    """When it is over, by the clock's monotonic seconds."""
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def after(cls, seconds: float, clock: Clock | None = None) -> Self:
        """A box that begins now."""
        clock = clock or SystemClock()
        return cls(ends=clock.monotonic() + seconds, clock=clock)

    @property
    def left_s(self) -> float:
        """Seconds that are left; at least 0."""
        return max(0.0, self.ends - self.clock.monotonic())

    def share(self, share: float) -> "Deadline":
        """A box for this share of what is left."""
        return Deadline.after(self.left_s * share, self.clock)

    def at_most(self, seconds: float) -> "Deadline":
        """A box for so many seconds, or for what is left if that is less."""
        return Deadline.after(min(seconds, self.left_s), self.clock)
