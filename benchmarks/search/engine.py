"""Simulated time: an engine that trains on W workers of a simulated clock.

    clock = SimulatedClock()
    SimulatedEngine(table_worker, clock, workers=8).run(study, dataset)

Measurements arrive at the time that their worker claims (`elapsed_s`), so a search over recorded
curves takes no longer than its decisions. Equal times are ordered by the start of the attempt.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

from orchestrator.snapshot import Verdict
from orchestrator.study.driver import StudyDriver
from workers.data.dataset import Dataset
from workers.failures import Failure, classify
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement, Progress

Worker = Callable[[TrainingJob, Dataset], Iterator[Measurement | Progress]]


class SimulatedClock:
    """A clock that only the simulated engine moves; starts at zero if not given otherwise."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        """Return simulated seconds."""
        return self._now

    def monotonic(self) -> float:
        """Return simulated seconds."""
        return self._now

    def advance(self, to: float) -> None:
        """Move to a later time; an earlier one changes nothing."""
        self._now = max(self._now, to)


class SimulatedEngine:
    """Interleaves the attempts of a study in simulated time.

    A trial that starts again, after a pause, continues where this engine stopped it, though no
    checkpoint exists: its worker repeats the curve, and what was measured before takes no time.

    Examples:
        >>> SimulatedEngine(worker, SimulatedClock(), workers=8).run(study, data)  # doctest: +SKIP
    """

    def __init__(self, worker: Worker, clock: SimulatedClock, *, workers: int = 1) -> None:
        """Create an idle engine.

        Args:
            worker: Trains a job, with the interface of `workers.run_job.run_job`.
            clock: Clock that the study uses as well.
            workers: Attempts at the same time.
        """
        self._worker = worker
        self._clock = clock
        self._workers = workers
        self._last: dict[str, Measurement] = {}
        """Last measurement of each trial, its time counted from the trial's first attempt."""

    def run(self, study: StudyDriver, dataset: Dataset) -> None:
        """Train until the study is finished or stopping."""
        running: list[tuple[float, int, _Attempt]] = []
        order = count()
        while True:
            while len(running) < self._workers and (job := study.ask()) is not None:
                attempt = self._start(job, dataset)
                heapq.heappush(running, (attempt.due_s, next(order), attempt))
            if not running:
                return
            due_s, place, attempt = heapq.heappop(running)
            self._clock.advance(due_s)
            if self._step(study, attempt):
                heapq.heappush(running, (attempt.due_s, place, attempt))
            else:
                study.requeue(attempt.key)  # no effect on a finished attempt

    def close(self) -> None:
        """Do nothing: the engine holds no resources."""

    def _start(self, job: TrainingJob, dataset: Dataset) -> "_Attempt":
        last = self._last.get(job.key.trial_uid)
        attempt = _Attempt(
            key=job.key,
            results=self._worker(job, dataset),
            began_s=self._clock.monotonic() - (last.elapsed_s if last else 0.0),
            skipped_s=last.elapsed_s if last else 0.0,
            skipped=last.fidelity if last else 0,
            due_s=self._clock.monotonic(),
        )
        attempt.advance()
        return attempt

    def _step(self, study: StudyDriver, attempt: "_Attempt") -> bool:
        """Deliver what is due now; return whether the attempt continues."""
        measurement = attempt.measurement
        if measurement is None:
            study.tell(attempt.key, attempt.failure)
            return False
        self._last[attempt.key.trial_uid] = measurement
        own = replace(measurement, elapsed_s=measurement.elapsed_s - attempt.skipped_s)
        verdict = study.report(attempt.key, own)
        if verdict is Verdict.PAUSE:
            return False
        if verdict is Verdict.STOP:
            study.tell(attempt.key)
            return False
        attempt.advance()
        return True


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """A running attempt, with the event that comes next."""

    key: AttemptKey
    results: Iterator[Measurement | Progress]
    began_s: float
    """Simulated time at which the trial would have begun if it had run in one attempt."""
    skipped_s: float
    """Training time of earlier attempts."""
    skipped: int
    """Fidelity that earlier attempts reached."""
    due_s: float
    measurement: Measurement | None = None
    """The next measurement; None at the end of the attempt."""
    failure: Failure | None = None

    def advance(self) -> None:
        """Read the worker up to its next measurement, or to its end."""
        self.measurement = None
        try:
            for seen in self.results:
                if isinstance(seen, Measurement) and seen.fidelity > self.skipped:
                    self.measurement = seen
                    self.due_s = self.began_s + seen.elapsed_s
                    return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - every failure is reported
            self.failure = classify(error)
