"""Time as a port, so that leases, budgets and simulated searches can be tested."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day and measures spans."""

    def now(self) -> float:
        """Seconds since the epoch, for records that people read."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back, for spans."""
        ...


class SystemClock:
    """This machine's clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()
