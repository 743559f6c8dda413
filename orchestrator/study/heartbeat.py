"""Heartbeat: calls something at even intervals beside the study, until told to stop."""

import threading
from collections.abc import Callable
from contextlib import suppress


class Heartbeat:
    """A daemon thread that beats."""

    def __init__(
        self, beat: Callable[[], None], *, every_s: float, forgives: type[Exception]
    ) -> None:
        """Beats only once started.

        Args:
            beat: What is called.
            every_s: Seconds from one beat to the next.
            forgives: An error after which the next beat tries again.
        """
        self._beat = beat
        self._every_s = every_s
        self._forgives = forgives
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archscout-heartbeat", daemon=True)

    def start(self) -> None:
        """Beats from now on, the first time after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Beats no more; waits for a beat under way."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            with suppress(self._forgives):
                self._beat()
