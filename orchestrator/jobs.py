"""Jobs: a trial's attempt as the plain data that a worker needs."""

from collections.abc import Iterable
from pathlib import Path

from orchestrator.config import StudyConfig
from orchestrator.trial import Trial
from workers.job import AttemptKey, TrainingJob
from workers.measurement import CheckpointRef


def make_job(
    trial: Trial,
    key: AttemptKey,
    config: StudyConfig,
    *,
    folder: Path,
    resume_from: Iterable[CheckpointRef],
) -> TrainingJob:
    """The job of one attempt.

    Args:
        trial: The trial.
        key: The attempt.
        config: The study's; a share of a GPU is also the share of its memory.
        folder: Where the trial's checkpoints go.
        resume_from: Those of earlier attempts, newest first.
    """
    share = min(1.0, config.resources.gpu or 0.0)
    return TrainingJob(
        key=key,
        trial_number=trial.number,
        candidate=trial.candidate,
        data=config.data_spec(),
        budget=config.to_budget(),
        seed=trial.seed,
        train=config.train,
        checkpoint_dir=str(folder),
        resume_from=tuple(resume_from),
        threads=max(1, int(config.resources.cpu)),
        device="cuda" if share else "cpu",
        gpu_share=share,
    )
