"""Process of a projection: `python -m orchestrator.tracking.projector --study NAME --home DIR`.

Reads the addresses of ledger and store from the environment. Follows the ledger until its standard
input closes or it receives SIGTERM. It runs at low priority, and an MLflow that is down or slow
only delays it.

To the line `drain` it responds `drained` once all events are shown, or `incomplete REASON` if the
store rejected some; until then it sends `remaining N`. At any time it sends `behind REASON` while
the store accepts nothing, and `recovered` once it does.
"""

import argparse
import contextlib
import functools
import logging
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from filelock import Timeout

from orchestrator.tracking.addresses import is_server
from orchestrator.tracking.paths import projection_lock
from workers.redaction import redact

if TYPE_CHECKING:
    from orchestrator.tracking.projection import Projection

_log = logging.getLogger("orchestrator.tracking.projector")

_POLL_INTERVAL_S = 0.25
_MAX_PAUSE_S = 5.0
_SUMMARY_INTERVAL_S = 10.0
_PLOT_INTERVAL_S = 60.0
_OVERHEAD_RATIO = 20
"""Plots take at most 1/20 of the time, and files lag by at most 1/20 of the age of the search: the
number of uploads then grows with the logarithm of its length."""
_MAX_DRAIN_ATTEMPTS = 3
_DRAIN_RETRY_S = 1.0
"""Pause before failed files are retried at the end."""
_FINISH_TIMEOUT_S = 10.0
"""Time to show the remaining events after the driver has ended."""


class DriverChannel:
    """Messages of the driver, and its end."""

    def __init__(self, source: IO[bytes], woken: int) -> None:
        """Open the channel.

        Args:
            source: Pipe from the driver; its end means that the driver has ended.
            woken: Descriptor that becomes readable when a signal arrives.
        """
        self._source = source
        self._woken = woken
        self._driver = os.getppid()
        self._text = b""
        self.ended = False
        """True once the driver has ended: only events recorded by now are shown."""
        self.drain = False
        """True while the driver waits until all events are shown."""

    def wait(self, seconds: float) -> None:
        """Wait for a message for up to this long."""
        if self.ended:
            return
        source = self._source.fileno()
        ready, _, _ = select.select([source, self._woken], [], [], seconds)
        # A process forked by the driver may keep our input open after the driver's death.
        if self._woken in ready or os.getppid() != self._driver:
            self.ended = True
        if source in ready:
            received = os.read(source, 4096)
            self.ended = self.ended or not received
            *lines, self._text = (self._text + received).split(b"\n")
            self.drain = self.drain or b"drain" in lines


class ProjectionLoop:
    """Loop of a projection: retries after outages, and leaves the machine to training."""

    def __init__(
        self,
        projection: "Projection",
        channel: DriverChannel,
        send: Callable[[str], None],
        redact_secrets: Callable[[str], str],
    ) -> None:
        self._projection = projection
        self._channel = channel
        self._send = send
        self._redact = redact_secrets
        self._failures = 0
        self._failed_task = self._reason = self._reported = ""
        self._needs_user = False
        self._has_reported = False
        self._drain_attempts = 0
        self._started = time.monotonic()
        self._next_summary = self._next_table = 0.0
        self._next_plot = self._started + _PLOT_INTERVAL_S

    def run(self) -> None:
        """Show events until the driver ends, then the remaining ones within a time limit."""
        while not self._channel.ended:
            started = time.monotonic()
            shown = self._try("events", self._projection.step)
            if self._channel.drain:
                self._drain(shown)
                continue
            if shown is not None:
                self._summarize_periodically()
                self._report_missing()
            # Even with a slow store at most a third of the time is spent on it.
            took = time.monotonic() - started
            self._channel.wait(max(self._pause(), min(2 * took, _MAX_PAUSE_S)))
        self._finish()

    def _report_missing(self) -> None:
        """Send the driver once, during the search, what the store does not accept."""
        if not self._has_reported and (missing := self._projection.missing()):
            self._has_reported = True
            self._send(f"behind {self._redact(missing)}")

    def _drain(self, shown: int | None) -> None:
        if shown:
            self._send(f"remaining {self._projection.remaining()}")
            self._channel.wait(0)
        elif shown is not None and self._summarize(plots=True, final=True):
            self._respond_to_drain(self._redact(self._projection.missing()))
        elif self._needs_user:
            self._respond_to_drain(self._reason)
        else:
            self._channel.wait(self._pause())

    def _respond_to_drain(self, missing: str) -> None:
        """Respond to `drain`, after a few retries if anything is missing.

        Args:
            missing: What the store did not accept and why; empty if nothing.
        """
        self._drain_attempts += 1
        if missing and self._drain_attempts < _MAX_DRAIN_ATTEMPTS:
            self._channel.wait(_DRAIN_RETRY_S)
            return
        self._channel.drain, self._drain_attempts = False, 0
        self._send(f"incomplete {missing}" if missing else "drained")

    def _finish(self) -> None:
        """Show the events recorded so far; later ones belong to the next driver's projection."""
        deadline = time.monotonic() + _FINISH_TIMEOUT_S
        last = self._try("ledger", self._projection.last_event)
        while time.monotonic() < deadline:
            if last is not None and self._projection.shown >= last:
                self._try("ledger", self._projection.commit_cursor)
                self._summarize(plots=False)
                return
            if self._try("events", self._projection.step) is None:
                time.sleep(_POLL_INTERVAL_S)
            if last is None:
                last = self._try("ledger", self._projection.last_event)

    def _summarize_periodically(self) -> None:
        now = time.monotonic()
        plots = now >= self._next_plot and self._projection.plots_are_stale
        table = now >= self._next_table
        if plots or now >= self._next_summary:
            self._summarize(plots=plots, table=table)
            done = time.monotonic()
            lag = (done - self._started) / _OVERHEAD_RATIO
            self._next_summary = done + _SUMMARY_INTERVAL_S
            if table:
                self._next_table = done + max(_SUMMARY_INTERVAL_S, lag)
            if plots:
                self._next_plot = done + max(_PLOT_INTERVAL_S, lag, _OVERHEAD_RATIO * (done - now))

    def _pause(self) -> float:
        return min(_POLL_INTERVAL_S * 2.0**self._failures, _MAX_PAUSE_S)

    def _summarize(self, *, plots: bool, table: bool = True, final: bool = False) -> bool:
        """Write the summary; return whether that succeeded."""
        summarize = self._projection.summarize
        work = functools.partial(summarize, plots=plots, table=table, final=final)
        return self._try("summary", work) is not None

    def _try(self, task: str, work: "Callable[[], int | None]") -> int | None:
        """Run one task; return its result, or None if the store or the ledger failed.

        Args:
            task: Name of the task; only its own success ends an outage that it met.
            work: The task; returns the number of events shown, where None counts as 0.
        """
        try:
            result = work() or 0
        except Exception as failure:  # noqa: BLE001  # After any failure the ledger still has the cursor.
            self._record_failure(task, failure)
            return None
        if self._failures and task == self._failed_task:
            _log.warning("recovered")
            self._failures, self._needs_user = 0, False
            if self._reported:
                self._reported = ""
                self._send("recovered")
        return result

    def _record_failure(self, task: str, failure: Exception) -> None:
        """Log the first failure, and report one that the next attempt met again."""
        from orchestrator.tracking.errors import needs_user, reason  # noqa: PLC0415 - loads mlflow

        text = self._redact(reason(failure))
        self._failed_task, self._reason, self._needs_user = task, text, needs_user(failure)
        if self._failures == 0:
            _log.warning("behind: %s", text)
        elif text != self._reported:
            self._reported = text
            self._send(f"behind {text}")
        self._failures = min(self._failures + 1, 10)


def main() -> None:
    """Project one study until its driver ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True)
    parser.add_argument("--home", required=True, type=Path)
    arguments = parser.parse_args()
    os.nice(10)
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    pipe = _own_stdout()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wake)
    channel = DriverChannel(sys.stdin.buffer, woken)

    def send(line: str) -> None:
        try:
            pipe.write(line.encode() + b"\n")
        except BrokenPipeError:
            channel.ended = True

    def has_ended() -> bool:
        channel.wait(0)
        return channel.ended

    lock = projection_lock(arguments.home, arguments.study)
    with (
        contextlib.suppress(Timeout),  # The driver ended while another projection was running.
        lock.acquire(poll_interval=_POLL_INTERVAL_S, cancel_check=has_ended),
    ):
        _project(arguments, channel, send)


def _project(
    arguments: argparse.Namespace, channel: DriverChannel, send: Callable[[str], None]
) -> None:
    study, home = arguments.study, arguments.home
    ledger_url, tracking_uri = os.environ["ARCHSCOUT_LEDGER"], os.environ["MLFLOW_TRACKING_URI"]
    redact_secrets = partial(redact, addresses=(ledger_url, tracking_uri))
    try:
        # Imported at the lowered priority: these take a second of processor time.
        from orchestrator.ledger import Ledger  # noqa: PLC0415 - loads sqlalchemy
        from orchestrator.tracking import client, projection  # noqa: PLC0415 - loads mlflow

        _silence_engines()

        with Ledger.open(ledger_url) as ledger:
            row = ledger.study(study)
            if row is None:
                _die(f"no study {study!r} in the ledger", send)
            shown = projection.Projection(
                ledger,
                row,
                lambda: client.open_client(tracking_uri),
                artifacts=None if is_server(tracking_uri) else home / "artifacts",
                logs=home / "logs" / study,
            )
            ProjectionLoop(shown, channel, send, redact_secrets).run()
    except Exception as failure:  # noqa: BLE001  # A traceback could reveal an address.
        _die(redact_secrets(f"{type(failure).__name__}: {failure}"), send)


def _die(reason: str, send: Callable[[str], None]) -> NoReturn:
    _log.error("%s", reason)
    send(f"behind {reason.splitlines()[0]}")
    sys.exit(1)


def _own_stdout() -> IO[bytes]:
    """Return the pipe to the driver, and redirect other output away from it."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return pipe


def _silence_engines() -> None:
    """Keep messages of the engines out of the log, which is for failures."""
    warnings.filterwarnings("ignore", message=".*noload.*")
    warnings.filterwarnings("ignore", module="(mlflow|alembic|optuna).*")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # We report a store that is down once; MLflow would log a traceback at each attempt.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main()
