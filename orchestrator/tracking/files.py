"""Files of runs: uploaded after the numbers; one that fails holds nothing up and is tried again."""

import logging
import time
from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

_MIN_PAUSE_S = 30.0
_MAX_PAUSE_S = 600.0
_FAILURES_IN_A_ROW = 2
"""After this many the store is taken to be away, not the file to be unfit."""

Upload = Callable[[], None]


class Files:
    """Uploads to one store.

    Example:
        >>> files = Files()
        >>> files.send("curve.svg", lambda: client.log_text(run_id, svg, "curve.svg"))
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, Upload] = {}
        self._pause = 0.0
        self._next_try = float("-inf")
        self.reason: Exception | None = None
        """Why the newest upload that failed did; None while nothing waits."""

    @property
    def waiting(self) -> Sequence[str]:
        """What is not uploaded."""
        return list(self._waiting)

    def send(self, what: str, upload: Upload) -> None:
        """Upload something now, or later where the store refuses it.

        Args:
            what: Its name for people; an older one of this name that still waits is replaced.
            upload: Does it; may be called several times.
        """
        self._waiting.pop(what, None)
        self._waiting[what] = upload
        self.retry()

    def retry(self, *, at_once: bool = False) -> None:
        """Upload what waits, unless an upload failed a moment ago.

        Args:
            at_once: Try in any case.
        """
        if not self._waiting or (not at_once and self._clock() < self._next_try):
            return
        in_a_row = failed = 0
        for what in list(self._waiting):
            upload = self._waiting.pop(what)
            try:
                upload()
            except Exception as failure:  # noqa: BLE001  # Libraries of stores raise what they like.
                self._waiting[what] = upload  # behind the others
                self.reason = failure
                in_a_row, failed = in_a_row + 1, failed + 1
                if in_a_row == _FAILURES_IN_A_ROW:
                    break
            else:
                in_a_row = 0
        self._plan(failed)

    def _plan(self, failed: int) -> None:
        if not failed:
            self._pause, self.reason = 0.0, None
            return
        if not self._pause:
            _log.warning("a file is not uploaded: %s", type(self.reason).__name__)
        self._pause = min(max(_MIN_PAUSE_S, 2 * self._pause), _MAX_PAUSE_S)
        self._next_try = self._clock() + self._pause
