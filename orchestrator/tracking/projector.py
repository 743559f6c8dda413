"""The projection as a process: `python -m orchestrator.tracking.projector --study NAME --home DIR`.

Reads the addresses of ledger and store from the environment. Follows the ledger until its standard
input closes or it is told to terminate. It yields the processor to training, and an MLflow that is
down or slow only delays it.

The line `drain` asks it to answer, once nothing is left to try, `drained` if all is shown or
`lacking REASON` if the store refused some of it. Until then it says `left N`, and at any time
`behind REASON` while the store takes nothing, `again` once it does.
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

from orchestrator.tracking.places import projection_lock
from workers.redaction import redact

if TYPE_CHECKING:
    from orchestrator.tracking.projection import Projection

_log = logging.getLogger("orchestrator.tracking.projector")

_POLL_S = 0.25
_MAX_PAUSE_S = 5.0
_NOTE_EVERY_S = 10.0
_PLOT_EVERY_S = 60.0
_SHARE = 20
"""Plots may take one part in this many of the time, and files may be late by one part in as many of
the age of the search: uploads then grow with its logarithm, not with its length."""
_TRIES = 3
_TRY_AGAIN_S = 1.0
"""How often, and how far apart, files are tried at the end."""
_LAST_WORDS_S = 10.0
"""How long it goes on after its driver is gone."""


class DriverChannel:
    """What the driver says, and whether it is still there."""

    def __init__(self, source: IO[bytes], woken: int) -> None:
        """Listen.

        Args:
            source: Where orders come from; its end is the last order.
            woken: Descriptor that becomes readable when a signal says to end.
        """
        self._source = source
        self._woken = woken
        self._driver = os.getppid()
        self._text = b""
        self.ended = False
        """Whether nothing more is to be shown than there is."""
        self.drain = False
        """Whether the driver waits for all to be shown."""

    def wait(self, seconds: float) -> None:
        """Listen for up to this long, less when something is said."""
        if self.ended:
            return
        source = self._source.fileno()
        ready, _, _ = select.select([source, self._woken], [], [], seconds)
        # A process that the driver forked may hold our input open after the driver's death.
        if self._woken in ready or os.getppid() != self._driver:
            self.ended = True
        if source in ready:
            said = os.read(source, 4096)
            self.ended = self.ended or not said
            *lines, self._text = (self._text + said).split(b"\n")
            self.drain = self.drain or b"drain" in lines


class ProjectionLoop:
    """Keeps a projection going, through outages, at a pace that leaves the machine to training."""

    def __init__(
        self,
        projection: "Projection",
        orders: DriverChannel,
        answer: Callable[[str], None],
        redact_secrets: Callable[[str], str],
    ) -> None:
        self._projection = projection
        self._orders = orders
        self._answer = answer
        self._redact = redact_secrets
        self._failures = 0
        self._failed_part = self._why = self._said = ""
        self._needs_user = False
        self._has_reported = False
        self._tries = 0
        self._began = time.monotonic()
        self._next_note = self._next_table = 0.0
        self._next_plot = self._began + _PLOT_EVERY_S

    def run(self) -> None:
        """Follow until told to end, then show what is there, within a limit."""
        while not self._orders.ended:
            began = time.monotonic()
            moved = self._try("events", self._projection.step)
            if self._orders.drain:
                self._drain(moved)
                continue
            if moved is not None:
                self._summarise_now_and_then()
                self._report_lacking()
            # However slow the store, at most a third of the time is spent on it.
            took = time.monotonic() - began
            self._orders.wait(max(self._pause(), min(2 * took, _MAX_PAUSE_S)))
        self._finish()

    def _report_lacking(self) -> None:
        """Tell the driver once, while the search runs, what the store does not take."""
        if not self._has_reported and (lacking := self._projection.lacking()):
            self._has_reported = True
            self._answer(f"behind {self._redact(lacking)}")

    def _drain(self, moved: int | None) -> None:
        if moved:
            self._answer(f"left {self._projection.left()}")
            self._orders.wait(0)
        elif moved is not None and self._summarise(plots=True, final=True):
            self._answer_drain(self._redact(self._projection.lacking()))
        elif self._needs_user:
            self._answer_drain(self._why)
        else:
            self._orders.wait(self._pause())

    def _answer_drain(self, lacking: str) -> None:
        """Say that nothing is left to try; what is lacking is tried a few times before.

        Args:
            lacking: What the store did not take and why; empty if nothing.
        """
        self._tries += 1
        if lacking and self._tries < _TRIES:
            self._orders.wait(_TRY_AGAIN_S)
            return
        self._orders.drain, self._tries = False, 0
        self._answer(f"lacking {lacking}" if lacking else "drained")

    def _finish(self) -> None:
        """Events recorded from now on are another driver's, and another projector's."""
        deadline = time.monotonic() + _LAST_WORDS_S
        last = self._try("ledger", self._projection.last_event)
        while time.monotonic() < deadline:
            if last is not None and self._projection.shown >= last:
                self._try("ledger", self._projection.commit_cursor)
                self._summarise(plots=False)
                return
            if self._try("events", self._projection.step) is None:
                time.sleep(_POLL_S)
            if last is None:
                last = self._try("ledger", self._projection.last_event)

    def _summarise_now_and_then(self) -> None:
        now = time.monotonic()
        plots = now >= self._next_plot and self._projection.has_news_to_draw
        table = now >= self._next_table
        if plots or now >= self._next_note:
            self._summarise(plots=plots, table=table)
            done = time.monotonic()
            late = (done - self._began) / _SHARE
            self._next_note = done + _NOTE_EVERY_S
            if table:
                self._next_table = done + max(_NOTE_EVERY_S, late)
            if plots:
                self._next_plot = done + max(_PLOT_EVERY_S, late, _SHARE * (done - now))

    def _pause(self) -> float:
        return min(_POLL_S * 2.0**self._failures, _MAX_PAUSE_S)

    def _summarise(self, *, plots: bool, table: bool = True, final: bool = False) -> bool:
        """Summarise as asked; return whether that succeeded."""
        summarise = self._projection.summarise
        work = functools.partial(summarise, plots=plots, table=table, final=final)
        return self._try("summary", work) is not None

    def _try(self, part: str, work: "Callable[[], int | None]") -> int | None:
        """Do a part of the work; return its result, None if the store or the ledger failed.

        Args:
            part: Its name; that another part succeeds does not show that this one would.
            work: Returns how many events it showed; None counts as 0.
        """
        try:
            result = work() or 0
        except Exception as failure:  # noqa: BLE001  # Whatever fails, the ledger keeps its place.
            self._failed(part, failure)
            return None
        if self._failures and part == self._failed_part:
            _log.warning("going on")
            self._failures, self._needs_user = 0, False
            if self._said:
                self._said = ""
                self._answer("again")
        return result

    def _failed(self, part: str, failure: Exception) -> None:
        """Log the first failure, and report one that the next try met again."""
        from orchestrator.tracking.refusals import needs_user, reason  # noqa: PLC0415 - load mlflow

        text = self._redact(reason(failure))
        self._failed_part, self._why, self._needs_user = part, text, needs_user(failure)
        if self._failures == 0:
            _log.warning("behind: %s", text)
        elif text != self._said:
            self._said = text
            self._answer(f"behind {text}")
        self._failures = min(self._failures + 1, 10)


def main() -> None:
    """Project one study until the driver is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True)
    parser.add_argument("--home", required=True, type=Path)
    given = parser.parse_args()
    os.nice(10)
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    answers = _own_stdout()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wake)
    orders = DriverChannel(sys.stdin.buffer, woken)

    def answer(line: str) -> None:
        try:
            answers.write(line.encode() + b"\n")
        except BrokenPipeError:
            orders.ended = True

    def has_ended() -> bool:
        orders.wait(0)
        return orders.ended

    lock = projection_lock(given.home, given.study)
    with (
        contextlib.suppress(Timeout),  # The driver ended while another projection was running.
        lock.acquire(poll_interval=_POLL_S, cancel_check=has_ended),
    ):
        _project(given, orders, answer)


def _project(
    given: argparse.Namespace, orders: DriverChannel, answer: Callable[[str], None]
) -> None:
    study, home = given.study, given.home
    ledger_url, tracking_uri = os.environ["ARCHSCOUT_LEDGER"], os.environ["MLFLOW_TRACKING_URI"]
    redact_secrets = partial(redact, addresses=(ledger_url, tracking_uri))
    try:
        # Loaded at the lowered priority: these take a second of processor time.
        from orchestrator.ledger import Ledger  # noqa: PLC0415
        from orchestrator.tracking.addresses import is_server  # noqa: PLC0415
        from orchestrator.tracking.client import open_client  # noqa: PLC0415
        from orchestrator.tracking.projection import Projection  # noqa: PLC0415

        _silence_engines()

        with Ledger.open(ledger_url) as ledger:
            row = ledger.study(study)
            if row is None:
                _die(f"no study {study!r} in the ledger", answer)
            projection = Projection(
                ledger,
                row,
                lambda: open_client(tracking_uri),
                artifacts=None if is_server(tracking_uri) else home / "artifacts",
                logs=home / "logs" / study,
            )
            ProjectionLoop(projection, orders, answer, redact_secrets).run()
    except Exception as failure:  # noqa: BLE001  # A traceback could show an address.
        _die(redact_secrets(f"{type(failure).__name__}: {failure}"), answer)


def _die(reason: str, answer: Callable[[str], None]) -> NoReturn:
    _log.error("%s", reason)
    answer(f"behind {reason.splitlines()[0]}")
    sys.exit(1)


def _own_stdout() -> IO[bytes]:
    """The pipe to the driver, which nothing printed by an engine can disturb."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers


def _silence_engines() -> None:
    """Keep what engines say about themselves out of the log: it is for failures."""
    warnings.filterwarnings("ignore", message=".*noload.*")
    warnings.filterwarnings("ignore", module="(mlflow|alembic|optuna).*")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A store that is down is told once, by us, and not with a traceback at each try.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main()
