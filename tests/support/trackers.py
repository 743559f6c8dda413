"""A tracker that shows nothing, for searches whose MLflow pages are not looked at."""


class NoTracker:
    """Says that it has shown all."""

    reason = ""
    drained_s: float | None = None
    """How long the last one would have waited."""

    def drain(self, timeout_s: float, on_remaining: object = None) -> bool:
        NoTracker.drained_s = timeout_s
        return True

    def cancel_wait(self) -> None:
        """Nothing is waited for."""

    def close(self) -> None:
        """Nothing runs."""
