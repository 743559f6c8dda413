"""Jobs: a trial's attempt as the plain data that a worker needs, and the log that it leaves.

Knows where a study's files go; neither what is in them nor who runs the jobs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.config.checks import user_object
from orchestrator.config.schema import StudyConfig
from orchestrator.trial import Trial
from workers import attempt_log
from workers.failures import Failure
from workers.job import AttemptKey, TeacherRef, TrainingJob
from workers.measurement import CheckpointRef
from workers.storage import Storage


class Jobs:
    """Makes the jobs of one study."""

    def __init__(
        self,
        config: StudyConfig,
        *,
        checkpoints: Storage,
        logs: Path | None,
        teacher: TeacherRef | None = None,
    ) -> None:
        """Makes none yet.

        Args:
            config: The study's; a share of a GPU is also the share of its memory.
            checkpoints: Storage of its checkpoints; those of a trial go to one named by its uid.
            logs: Folder of its logs, one a trial, named by its number; None keeps none.
            teacher: Whom its candidates may learn from, if anybody.
        """
        self._config = config
        self._checkpoints = checkpoints
        self._logs = logs
        self._teacher = teacher

    def make(
        self, trial: Trial, key: AttemptKey, resume_from: Iterable[CheckpointRef], shares: int
    ) -> TrainingJob:
        """The job of one attempt.

        Args:
            trial: What is trained.
            key: The attempt.
            resume_from: Checkpoints that it may go on from, the newest first.
            shares: How many times the usual share of the machine it gets.
        """
        config, log = self._config, self._log_of(trial)
        share = min(1.0, shares * (config.resources.gpu or 0.0))
        return TrainingJob(
            key=key,
            trial_number=trial.number,
            candidate=trial.candidate,
            data=config.data,
            budget=config.budget,
            seed=trial.seed,
            train=config.train,
            space=config.space if user_object(config.space) else None,
            checkpoint_dir=str((self._checkpoints / trial.uid).require_below(self._checkpoints)),
            log_path=None if log is None else str(log),
            teacher=self._teacher,
            resume_from=tuple(resume_from),
            threads=max(1, int(config.resources.cpu)),
            device="cuda" if share else "cpu",
            shares=shares,
            gpu_share=share,
        )

    def ended(self, trial: Trial, key: AttemptKey, how: str, failure: Failure | None) -> None:
        """Adds to the trial's log how an attempt ended; its worker may be past telling.

        Comes before the ledger tells of the trial's end, so that whoever hears of it finds all.
        """
        log = self._log_of(trial)
        if log is None:
            return
        text = f"attempt {key.number} of trial {trial.number} ended: {how}"
        if failure is not None:
            text += f": {failure.message}\n{failure.traceback}"
        attempt_log.append(log, text)

    def left_out(self, trial: Trial, fidelity: int, metrics: Mapping[str, float]) -> None:
        """Name metrics of an epoch in the trial's log that cannot be recorded."""
        log = self._log_of(trial)
        if log is not None and metrics:
            named = ", ".join(f"{name} {value}" for name, value in sorted(metrics.items()))
            attempt_log.append(log, f"epoch {fidelity}: not recorded, no finite number: {named}")

    def _log_of(self, trial: Trial) -> Path | None:
        return None if self._logs is None else self._logs / f"{trial.number}.log"
