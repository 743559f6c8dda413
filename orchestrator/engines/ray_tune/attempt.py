"""One attempt in a worker's process: its generator, advanced step by step under a watchdog.

The generator runs in another thread than its caller, so that a silent one can be reported and
abandoned. Independent of Ray.
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
"""Starts a job: `workers.run_job.run_job` with its data set bound."""

TRAINING_THREAD = "training"
"""Name of the thread that trains."""

CLOSE_TIMEOUT_S = 10.0
"""Time limit of a generator's cleanup, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """Time limits of a silent attempt, and the folder of its stack traces."""

    silence_s: float
    """Limit without Progress or Measurement for built-in training, and without a heartbeat for
    any process, in seconds."""
    user_silence_s: float | None = None
    """Limit without a measurement for the user's own training, in seconds; None for no limit."""
    stacks: Path
    """Folder for stack traces of processes whose interpreter does not respond."""

    def file(self, key: AttemptKey) -> Path:
        """Return the file of an attempt's stack traces."""
        return self.stacks / f"{key.trial_uid}-{key.number}.txt"

    def limit_s(self, job: TrainingJob) -> float | None:
        """Return a job's limit without progress, in seconds; None for no limit."""
        return self.silence_s if job.train is None else self.user_silence_s


class AttemptRunner:
    """Runs one job; `advance` returns its next measurement, its end or its failure."""

    def __init__(
        self,
        job: TrainingJob,
        start: Start,
        watch: Watchdog,
        thread: Executor,
        send_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """Create a runner; nothing starts before `advance`.

        Args:
            job: The job to train.
            start: Starts it.
            watch: Time limits of silence.
            thread: Executor that trains.
            send_heartbeat: Called about once a second while it trains.
        """
        self._send_heartbeat = send_heartbeat
        self._job = job
        self._start = start
        self._limit_s = watch.limit_s(job)
        self._poll_s = min(1.0, watch.silence_s / 4)
        self._thread = thread
        self._iterator: Iterator[Measurement | Progress] | None = None
        self._last_progress = time.monotonic()
        self._alarm = _Alarm(watch.file(job.key), watch.silence_s + 2)

    def advance(self) -> Report:
        """Train to the next measurement; a failure is reported, never raised."""
        self._last_progress = time.monotonic()
        # First: a process suspended before its first heartbeat would never be noticed.
        self._send_heartbeat()
        pending = self._thread.submit(self._train_step)
        try:
            return self._await(pending)
        finally:
            self._alarm.cancel()

    def close(self) -> None:
        """Let the generator clean up.

        Raises:
            TimeoutError: It does not end; its process cannot be reused.
        """
        self._alarm.close()
        close = getattr(self._iterator, "close", None)
        if close is not None:
            # Its exception is dropped: the outcome of the trial is already recorded.
            self._thread.submit(close).exception(timeout=CLOSE_TIMEOUT_S)

    def _await(self, pending: "Future[Report]") -> Report:
        while True:
            self._alarm.arm()
            self._send_heartbeat()
            silent_s = time.monotonic() - self._last_progress
            if self._limit_s is not None and silent_s >= self._limit_s:
                failure = timeout_failure(f"no progress for {silent_s:.0f} s", all_stacks())
                return Report(ended=True, failure=failure)
            try:
                return pending.result(timeout=self._poll_s)
            except TimeoutError:
                continue

    def _train_step(self) -> Report:
        measurement: Measurement | None = None
        try:
            if self._iterator is None:
                self._iterator = self._start(self._job)
            for item in self._iterator:
                self._last_progress = time.monotonic()
                if not isinstance(item, Measurement):
                    continue
                measurement = item
                if item.fidelity < self._job.budget.maximum:
                    return Report(measurement=item)
                # At full budget the generator ends in the same step, which saves a round trip.
            return Report(measurement=measurement, ended=True)
        except BaseException as error:  # noqa: BLE001 - sys.exit() by user code is a failure too
            return Report(measurement=measurement, ended=True, failure=classify(error))


def timeout_failure(message: str, stacks: str) -> Failure:
    """Return the failure of a silent attempt, with its stack traces."""
    return replace(Failure.without_traceback(FailureKind.TIMEOUT, message), traceback=stacks)


def all_stacks() -> str:
    """Return the stack traces of all threads of this process, the training thread last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - documented despite its name
    named = [(names.get(ident, str(ident)), frame) for ident, frame in frames.items()]
    named.sort(key=lambda each: each[0].startswith(TRAINING_THREAD))
    return "\n".join(
        f"Thread {name}:\n" + "".join(traceback.format_stack(frame)) for name, frame in named
    )


class _Alarm:
    """Writes stack traces and ends the process from C, for code that never releases the GIL."""

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
