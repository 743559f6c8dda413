"""Dispatch of a job to its trainer: the network trainer, the user's generator or the surrogate."""

from collections.abc import Iterator

from workers.attempt_log import Steps, log_steps
from workers.data.dataset import Dataset
from workers.job import TrainingJob
from workers.measurement import Measurement, Progress
from workers.surrogate import curve
from workers.user_training import measure


def run_job(job: TrainingJob, dataset: Dataset) -> Iterator[Measurement | Progress]:
    """Train one attempt; yields a measurement after each epoch and progress in between.

    Nothing runs before the first value is requested, so all errors are raised there. Closing the
    iterator ends the attempt. Log records and printed text are copied to the job's log.

    Raises:
        BadCandidateError: The candidate cannot be built or set up.
        DivergedError: A loss or metric is not finite.
        UserCodeError: The user's own code raised.
        OSError: The disk or the device fails.
    """
    return log_steps(job, _steps(job, dataset))


def _steps(job: TrainingJob, dataset: Dataset) -> Steps:
    if job.train is not None:
        yield from measure(job)
    elif job.data.source == "surrogate":
        yield from curve(job)
    else:
        from workers.training.trainer import Trainer  # noqa: PLC0415 - loads torch, 1.4 s

        yield from Trainer(job, dataset).run()
