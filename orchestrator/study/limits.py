"""A study's course: how long it has run, and why it stops.

Knows the clock and the limit of time; what else stops a study is told here by whoever sees it.
"""

from orchestrator.clock import Clock


class SearchLimits:
    """One driver's part of a study, over all of which the time adds up."""

    def __init__(self, clock: Clock, *, spent_s: float, hours: float | None) -> None:
        """Begins now.

        Args:
            clock: Tells the time.
            spent_s: What drivers before this one have used.
            hours: How long all together may take; None for as long as it takes.
        """
        self._clock = clock
        self._before_s = spent_s
        self._limit_s = None if hours is None else hours * 3600
        self._began = self._accounted = clock.monotonic()
        self._reason: str | None = None
        self.abort_reason: str | None = None
        """Why the search was broken off, if it was."""
        self.block_reason: str | None = None
        """What in the world, rather than in the study, keeps it from going on, if anything."""

    @property
    def spent_s(self) -> float:
        """Search time over all drivers."""
        return self._before_s + self._clock.monotonic() - self._began

    @property
    def reason(self) -> str | None:
        """Why it stops, in one word; None while it does not."""
        if self._reason is None and self._limit_s is not None and self.spent_s >= self._limit_s:
            self.stop("hours")
        return self._reason

    def stop(self, reason: str) -> None:
        """Nothing new starts from now on; the first reason stays."""
        self._reason = self._reason or reason

    def abort(self, why: str) -> None:
        """Stops because the study is not worth going on with as it is."""
        self.abort_reason = why
        self.stop("broken")

    def block(self, obstacle: str) -> None:
        """Stops because it cannot go on until somebody has cleared its way."""
        self.block_reason = self.block_reason or obstacle
        self.stop("blocked")

    @property
    def unaccounted_s(self) -> float:
        """Time that has not been accounted for."""
        return self._clock.monotonic() - self._accounted

    def account(self, seconds: float) -> None:
        """So much more is accounted for."""
        self._accounted += seconds
