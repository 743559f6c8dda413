"""Uploads of runs' files: a failed one is retried later and does not block the others."""

import logging
import time
from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

_MIN_PAUSE_S = 30.0
_MAX_PAUSE_S = 600.0
_FAILURES_IN_A_ROW = 2
"""After this many the store counts as unreachable, rather than one file as unacceptable."""

Upload = Callable[[], None]


class UploadQueue:
    """Uploads to one store.

    Examples:
        >>> uploads = UploadQueue()
        >>> uploads.send("curve.svg", lambda: client.log_text(run_id, svg, "curve.svg"))
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pending: dict[str, Upload] = {}
        self._pause = 0.0
        self._next_try = float("-inf")
        self.error: Exception | None = None
        """Error of the last failed upload; None if none is pending."""

    @property
    def pending(self) -> Sequence[str]:
        """Names of the pending uploads."""
        return list(self._pending)

    def send(self, name: str, upload: Upload) -> None:
        """Upload now; if that fails, keep the upload for later.

        Args:
            name: Name in messages; replaces a pending upload of the same name.
            upload: Does the upload; may be called several times.
        """
        self._pending.pop(name, None)
        self._pending[name] = upload
        self.retry()

    def retry(self, *, ignore_pause: bool = False) -> None:
        """Run the pending uploads, unless one failed a moment ago.

        Args:
            ignore_pause: Ignore the pause after a failure.
        """
        if not self._pending or (not ignore_pause and self._clock() < self._next_try):
            return
        in_a_row = failed = 0
        for name in list(self._pending):
            upload = self._pending.pop(name)
            try:
                upload()
            except Exception as failure:  # noqa: BLE001  # Stores' libraries raise any type.
                self._pending[name] = upload  # behind the others
                self.error = failure
                in_a_row, failed = in_a_row + 1, failed + 1
                if in_a_row == _FAILURES_IN_A_ROW:
                    break
            else:
                in_a_row = 0
        self._schedule(failed)

    def _schedule(self, failed: int) -> None:
        if not failed:
            self._pause, self.error = 0.0, None
            return
        if not self._pause:
            _log.warning("a file is not uploaded: %s", type(self.error).__name__)
        self._pause = min(max(_MIN_PAUSE_S, 2 * self._pause), _MAX_PAUSE_S)
        self._next_try = self._clock() + self._pause
