"""One door to training: whatever a job asks for, out come measurements.

Knows which trainer serves which job and nothing of how each works. Loads torch only for jobs that
need it.
"""

from collections.abc import Iterator

from workers.attempt_log import Steps, logged
from workers.data.dataset import Dataset
from workers.job import TrainingJob
from workers.measurement import Measurement, Progress


def run_job(job: TrainingJob, dataset: Dataset) -> Iterator[Measurement | Progress]:
    """Train one attempt: a measurement after each epoch, signs of life in between.

    Nothing happens before the first value is asked for, so all errors come from there. Closing the
    iterator ends the attempt; what was yielded stands. What is logged and printed goes to the
    job's log as well.

    Raises:
        BadCandidateError: The candidate cannot be built or set up.
        Diverged: The training left the finite numbers.
        UserCodeError: The user's own code raised.
        OSError: The disk or the device fails.
    """
    return logged(job, _steps(job, dataset))


def _steps(job: TrainingJob, dataset: Dataset) -> Steps:
    if job.train is not None:
        from workers.user_training import measure  # noqa: PLC0415

        yield from measure(job)
    elif job.data.source == "surrogate":
        from workers.surrogate import curve  # noqa: PLC0415

        yield from curve(job)
    else:
        from workers.training.trainer import Trainer  # noqa: PLC0415 - loads torch, 1.4 s

        yield from Trainer(job, dataset).run()
