"""Search limits: elapsed time of a study, and the reason why it stops."""

from orchestrator.clock import Clock


class SearchLimits:
    """Time limit and stop reason of one driver; the elapsed time adds up over all drivers."""

    def __init__(self, clock: Clock, *, spent_s: float, hours: float | None) -> None:
        """Start measuring.

        Args:
            clock: Source of times.
            spent_s: Seconds that earlier drivers used.
            hours: Limit for all drivers together; None for no limit.
        """
        self.clock = clock
        self._before_s = spent_s
        self._limit_s = None if hours is None else hours * 3600
        self._began = self._accounted = clock.monotonic()
        self._stop_reason: str | None = None
        self.abort_reason: str | None = None
        """Error in the study for which the search was aborted; None otherwise."""
        self.block_reason: str | None = None
        """Obstacle outside the study, such as a full disk, for which it stopped; None otherwise."""

    @property
    def spent_s(self) -> float:
        """Search time in seconds, over all drivers."""
        return self._before_s + self.clock.monotonic() - self._began

    @property
    def stop_reason(self) -> str | None:
        """Reason to stop, in one word; None while the search continues."""
        over = self._limit_s is not None and self.spent_s >= self._limit_s
        if self._stop_reason is None and over:
            self.stop("hours")
        return self._stop_reason

    def stop(self, reason: str) -> None:
        """Start nothing new from now on; the first reason is kept."""
        self._stop_reason = self._stop_reason or reason

    def abort(self, reason: str) -> None:
        """Stop because the study cannot succeed without a change."""
        self.abort_reason = reason
        self.stop("broken")

    def block(self, obstacle: str) -> None:
        """Stop because of an obstacle that the user must remove."""
        self.block_reason = self.block_reason or obstacle
        self.stop("blocked")

    @property
    def unaccounted_s(self) -> float:
        """Seconds that are not recorded yet."""
        return self.clock.monotonic() - self._accounted

    def account(self, seconds: float) -> None:
        """Mark seconds as recorded."""
        self._accounted += seconds
