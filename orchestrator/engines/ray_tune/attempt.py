"""One attempt inside a worker's process: its generator, advanced step by step under a watch.

The generator runs in a thread beside the one that waits for it, so that a silent one can be
described and given up. Knows no Ray: a test drives it as a worker does.
"""

import faulthandler
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.engines.ray_tune.messages import Report
from workers.failures import Failure, FailureKind, classify
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement, Progress

Start = Callable[[TrainingJob], Iterator[Measurement | Progress]]
"""Begins a job: `workers.run_job.run_job` with its data set given."""

TRAINING = "training"
"""What the thread is called that trains."""

CLOSE_S = 10.0
"""How long a generator may take to clean up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """How long an attempt may be silent, and who learns where it hung."""

    silence_s: float
    """Seconds without Progress or Measurement after which built-in training is ended, and seconds
    without a heartbeat after which any process is."""
    user_silence_s: float | None = None
    """Seconds without a measurement after which a user's own training is ended; None never."""
    stacks: Path
    """Folder for the stacks of processes whose interpreter no longer answers."""

    def file(self, key: AttemptKey) -> Path:
        """Where an attempt's stacks are written."""
        return self.stacks / f"{key.trial_uid}-{key.number}.txt"

    def limit_s(self, job: TrainingJob) -> float | None:
        """Seconds without progress after which a job's attempt is ended; None for no limit."""
        return self.silence_s if job.train is None else self.user_silence_s


class AttemptRunner:
    """Runs one job; `advance` brings its next measurement, its end or its failure."""

    def __init__(
        self,
        job: TrainingJob,
        start: Start,
        watch: Watchdog,
        thread: Executor,
        sign: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts nothing yet.

        Args:
            job: What is trained.
            start: Begins it.
            watch: How long it may be silent.
            thread: Where it trains.
            sign: Heartbeat of the process, called about once a second while it trains.
        """
        self._leave_sign = sign
        self._job = job
        self._start = start
        self._limit_s = watch.limit_s(job)
        self._poll_s = min(1.0, watch.silence_s / 4)
        self._thread = thread
        self._iterator: Iterator[Measurement | Progress] | None = None
        self._sign = time.monotonic()
        self._alarm = _Alarm(watch.file(job.key), watch.silence_s + 2)

    def advance(self) -> Report:
        """Train to the next measurement; a failure is an answer, never an exception."""
        self._sign = time.monotonic()
        # First of all: one that is stopped before it gave any sign would never be missed.
        self._leave_sign()
        pending = self._thread.submit(self._train_on)
        try:
            return self._await(pending)
        finally:
            self._alarm.cancel()

    def close(self) -> None:
        """Let the generator clean up.

        Raises:
            TimeoutError: It does not come to an end; its process is of no further use.
        """
        self._alarm.close()
        close = getattr(self._iterator, "close", None)
        if close is not None:
            # What it raises has no trial left to be told to: the verdict is already recorded.
            self._thread.submit(close).exception(timeout=CLOSE_S)

    def _await(self, pending: "Future[Report]") -> Report:
        while True:
            self._alarm.arm()
            self._leave_sign()
            quiet_s = time.monotonic() - self._sign
            if self._limit_s is not None and quiet_s >= self._limit_s:
                failure = silent(f"no sign of progress for {quiet_s:.0f} s", all_stacks())
                return Report(ended=True, failure=failure)
            try:
                return pending.result(timeout=self._poll_s)
            except TimeoutError:
                continue

    def _train_on(self) -> Report:
        measurement: Measurement | None = None
        try:
            if self._iterator is None:
                self._iterator = self._start(self._job)
            for item in self._iterator:
                self._sign = time.monotonic()
                if not isinstance(item, Measurement):
                    continue
                measurement = item
                if item.fidelity < self._job.budget.maximum:
                    return Report(measurement=item)
                # At the top the generator runs to its end in the same step: a round trip less.
            return Report(measurement=measurement, ended=True)
        except BaseException as error:  # noqa: BLE001 - sys.exit() by user code is a failure too
            return Report(measurement=measurement, ended=True, failure=classify(error))


def silent(message: str, stacks: str) -> Failure:
    """The failure of an attempt that gave no sign of life, with the stacks it hung in."""
    return replace(Failure.without_traceback(FailureKind.TIMEOUT, message), traceback=stacks)


def all_stacks() -> str:
    """Where every thread of this process stands, as text, the one that trains last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - documented, whatever its name says
    named = [(names.get(ident, str(ident)), frame) for ident, frame in frames.items()]
    named.sort(key=lambda each: each[0].startswith(TRAINING))
    return "\n".join(
        f"Thread {name}:\n" + "".join(traceback.format_stack(frame)) for name, frame in named
    )


class _Alarm:
    """Ends the process from C, stacks written: for code that never releases Python's lock."""

    def __init__(self, path: Path, after_s: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("w")
        self._after_s = after_s
        self._armed: float | None = None

    def arm(self) -> None:
        now = time.monotonic()
        if self._armed is None or now - self._armed > 0.5:
            faulthandler.dump_traceback_later(self._after_s, exit=True, file=self._file)
            self._armed = now

    def cancel(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._armed = None

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
