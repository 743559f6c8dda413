"""Heartbeat: a thread that calls a function at regular intervals."""

import threading
from collections.abc import Callable
from contextlib import suppress


class Heartbeat:
    """A daemon thread that calls a function at regular intervals once started."""

    def __init__(
        self, beat: Callable[[], None], *, interval_s: float, ignore: type[Exception]
    ) -> None:
        """Prepare the thread.

        Args:
            beat: Function to call.
            interval_s: Seconds between calls.
            ignore: Error after which the next call tries again.
        """
        self._beat = beat
        self._interval_s = interval_s
        self._ignore = ignore
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archscout-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread; the first call comes after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, after a call in progress."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            with suppress(self._ignore):
                self._beat()
