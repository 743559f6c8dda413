"""Time as a port, so that leases, budgets and simulated searches can be tested."""

import time
from typing import Protocol


class Clock(Protocol):
    """Clock that gives the time of day and measures durations."""

    def now(self) -> float:
        """Return seconds since the epoch, for records."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start, never decreasing, for durations."""
        ...


class SystemClock:
    """This machine's clock."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""
        return time.monotonic()
