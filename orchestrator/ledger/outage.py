"""Outages of a database: wait for it, and inform the user."""

import threading
import time
from collections.abc import Callable

_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 1.0
_NOTICE_AFTER_S = 1.0


class Outage:
    """State of one database's outage, shared by all threads that use it."""

    def __init__(self, max_outage_s: float, tell: Callable[[str], None]) -> None:
        """Begin without an outage.

        Args:
            max_outage_s: Longest outage, in seconds, before waiting callers give up.
            tell: Called once when an outage lasts, and once when it ends.
        """
        self._max_outage_s = max_outage_s
        self._tell = tell
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._since: float | None = None
        self._noticed = False

    def wait_or_give_up(self, message: str) -> bool:
        """Wait a moment before the next attempt.

        The first attempt after a lost connection is made at once, whatever the limit.

        Args:
            message: Description of the error.

        Returns:
            False to give up.
        """
        with self._lock:
            began, self._since = self._since, self._since or time.monotonic()
            away_s = time.monotonic() - self._since
            is_new = away_s > _NOTICE_AFTER_S and not self._noticed
            self._noticed = self._noticed or is_new
        if began is None:
            return True
        if self._cancelled.is_set() or away_s >= self._max_outage_s:
            return False
        if is_new:
            self._tell(f"{message}; waiting for it, {self._max_outage_s:.0f} s at most")
        self._cancelled.wait(min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, away_s / 2)))
        return True

    def end(self) -> None:
        """Record that the database answered."""
        if self._since is None:
            return
        with self._lock:
            self._since, noticed, self._noticed = None, self._noticed, False
        if noticed:
            self._tell("the ledger answers again; continuing")

    def cancel_wait(self) -> None:
        """Stop waiting, now and later."""
        self._cancelled.set()
