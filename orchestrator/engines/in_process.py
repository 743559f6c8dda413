"""The in-process engine: one slot, in the driver itself, for tests, debugging and small machines.

Exempt from isolation: a trial that hangs or ends the process takes the search with it. Knows no
process and no cluster.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from orchestrator.snapshot import Verdict
from search_spaces.user_code import UserCode
from workers.data.dataset import Dataset
from workers.failures import Failure, classify
from workers.job import TrainingJob
from workers.measurement import Measurement, Progress
from workers.run_job import run_job

if TYPE_CHECKING:
    from orchestrator.study.driver import StudyDriver

Worker = Callable[[TrainingJob, Dataset], Iterator[Measurement | Progress]]


class InProcessEngine:
    """Trains one attempt after the other."""

    def __init__(self, worker: Worker = run_job, code: UserCode | None = None) -> None:
        """Trains nothing yet.

        Args:
            worker: Trains a job; anything with the interface of `workers.run_job`.
            code: The user's own Python as the study was opened with it.
        """
        self._worker = worker
        self._code = code

    def run(self, study: "StudyDriver", dataset: Dataset) -> None:
        """Trains until the study has nothing left or is stopping."""
        with self._code.installed() if self._code else nullcontext():
            while (job := study.ask()) is not None:
                try:
                    self._train(study, job, dataset)
                finally:
                    study.requeue(job.key)  # an attempt that was told is not touched by this

    def close(self) -> None:
        """Nothing is held."""

    def _train(self, study: "StudyDriver", job: TrainingJob, dataset: Dataset) -> None:
        """One attempt, told at its end unless the study pauses it."""
        steps = _Steps(self._worker, job, dataset)
        for seen in steps:
            if isinstance(seen, Measurement):
                verdict = study.report(job.key, seen)
            else:
                verdict = Verdict.PAUSE if study.stopping else Verdict.CONTINUE
            if verdict is Verdict.PAUSE:
                return
            if verdict is Verdict.STOP:
                break
        study.tell(job.key, steps.failure)


class _Steps:
    """What a worker yields; its error ends the steps and is kept, apart from the study's own."""

    def __init__(self, worker: Worker, job: TrainingJob, dataset: Dataset) -> None:
        self._worker = worker
        self._job = job
        self._dataset = dataset
        self.failure: Failure | None = None

    def __iter__(self) -> Iterator[Measurement | Progress]:
        # Only the worker runs inside: what the study raises passes through the loop around it.
        try:
            yield from self._worker(self._job, self._dataset)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told, whatever it is
            self.failure = classify(error)
