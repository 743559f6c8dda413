"""The in-process engine: one slot in the driver itself, for tests, debugging and small machines.

There is no isolation: a trial that hangs or ends the process ends the search.
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
    """Trains one attempt after the other.

    Examples:
        >>> engine = InProcessEngine()
        >>> engine.run(study, dataset)  # doctest: +SKIP
    """

    def __init__(self, worker: Worker = run_job, code: UserCode | None = None) -> None:
        """Create an idle engine.

        Args:
            worker: Trains a job, with the interface of `workers.run_job.run_job`.
            code: The user's own Python, as the study recorded it; None without any.
        """
        self._worker = worker
        self._code = code

    def run(self, study: "StudyDriver", dataset: Dataset) -> None:
        """Train until the study is finished or stopping."""
        with self._code.installed() if self._code else nullcontext():
            while (job := study.ask()) is not None:
                try:
                    self._train(study, job, dataset)
                finally:
                    study.requeue(job.key)  # no effect on a finished attempt

    def close(self) -> None:
        """Do nothing: the engine holds no resources."""

    def _train(self, study: "StudyDriver", job: TrainingJob, dataset: Dataset) -> None:
        steps = _Steps(self._worker, job, dataset)
        for seen in steps:
            if isinstance(seen, Measurement):
                verdict = study.report(job.key, seen)
            else:
                verdict = study.check(job.key)
            if verdict is Verdict.PAUSE:
                return
            if verdict is Verdict.STOP:
                break
        study.tell(job.key, steps.failure)


class _Steps:
    """Iterates over a worker's results; an error of the worker ends the iteration and is kept."""

    def __init__(self, worker: Worker, job: TrainingJob, dataset: Dataset) -> None:
        self._worker = worker
        self._job = job
        self._dataset = dataset
        self.failure: Failure | None = None

    def __iter__(self) -> Iterator[Measurement | Progress]:
        # Only the worker runs inside: an error of the study is raised by the loop around it.
        try:
            yield from self._worker(self._job, self._dataset)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - every failure is reported
            self.failure = classify(error)
