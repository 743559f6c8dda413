"""Outages: how long a database that went away is waited for, and who is told.

Knows time and patience; what counts as away is for whoever talks to the database to say.
"""

import threading
import time
from collections.abc import Callable

_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 1.0
_TOLD_AFTER_S = 1.0


class Outage:
    """The times at which one database did not answer; shared by all threads that ask it."""

    def __init__(self, patience_s: float, tell: Callable[[str], None]) -> None:
        """All is well.

        Args:
            patience_s: How long an outage may last before those who wait give up.
            tell: Told once when an outage lasts, and once when it is over.
        """
        self._patience_s = patience_s
        self._tell = tell
        self._lock = threading.Lock()
        self._impatient = threading.Event()
        self._since: float | None = None
        self._told = False

    def wait_or_give_up(self, said: str) -> bool:
        """Wait a moment before the next try.

        A connection that was only cut is made anew at once, whatever the patience.

        Args:
            said: What the database, or the way to it, said.

        Returns:
            Whether there is to be a next try.
        """
        with self._lock:
            began, self._since = self._since, self._since or time.monotonic()
            away_s = time.monotonic() - self._since
            news = away_s > _TOLD_AFTER_S and not self._told
            self._told = self._told or news
        if began is None:
            return True
        if self._impatient.is_set() or away_s >= self._patience_s:
            return False
        if news:
            self._tell(f"{said}; waiting for it, {self._patience_s:.0f} s at most")
        self._impatient.wait(min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, away_s / 2)))
        return True

    def over(self) -> None:
        """The database has answered."""
        if self._since is None:
            return
        with self._lock:
            self._since, told, self._told = None, self._told, False
        if told:
            self._tell("the ledger answers again; going on")

    def cancel_wait(self) -> None:
        """Wait no more, now or later."""
        self._impatient.set()
