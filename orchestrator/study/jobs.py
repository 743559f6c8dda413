"""Training jobs: the plain data that a worker needs for an attempt, and the trial's log."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.config.checks import user_object
from orchestrator.config.schema import StudyConfig
from orchestrator.objective import epoch_objective, scored_measurement
from orchestrator.trial import Trial
from workers import attempt_log
from workers.failures import Failure
from workers.job import AttemptKey, BestEpoch, TeacherRef, TrainingJob
from workers.measurement import CheckpointRef
from workers.storage import Storage


class JobFactory:
    """Makes the training jobs of one study, and writes the trials' logs."""

    def __init__(
        self,
        config: StudyConfig,
        *,
        checkpoints: Storage,
        logs: Path | None,
        teacher: TeacherRef | None = None,
    ) -> None:
        """Configure the factory.

        Args:
            config: The study's; a share of a GPU is also the share of its memory.
            checkpoints: Storage of its checkpoints, with a folder for each trial uid.
            logs: Folder of its logs, one for each trial number; None keeps none.
            teacher: Model that loss terms distil from; None without one.
        """
        self._config = config
        self._checkpoints = checkpoints
        self._logs = logs
        self._teacher = teacher

    def make(
        self,
        trial: Trial,
        key: AttemptKey,
        resume_from: Iterable[CheckpointRef],
        shares: int,
        continues: Iterable[str] = (),
    ) -> TrainingJob:
        """Return the job of one attempt.

        Args:
            trial: The trial to train.
            key: The attempt.
            resume_from: Checkpoints that it may resume from, newest first.
            shares: Multiple of the usual share of the machine.
            continues: uids of the trials that it continues, whose checkpoints are among these.
        """
        config, log = self._config, self._log_path(trial)
        gpu_share = min(1.0, shares * (config.resources.gpu or 0.0))
        return TrainingJob(
            key=key,
            trial_number=trial.number,
            candidate=trial.candidate,
            data=config.data,
            budget=config.budget,
            seed=trial.seed,
            train=config.train,
            space=config.space_base if user_object(config.space_base) else None,
            checkpoint_dir=self._folder(trial.uid),
            earlier_dirs=tuple(map(self._folder, continues)),
            log_path=None if log is None else str(log),
            teacher=self._teacher,
            resume_from=tuple(resume_from),
            best_epoch=self._best_epoch(trial),
            threads=max(1, int(config.resources.cpu)),
            device="cuda" if gpu_share else "cpu",
            shares=shares,
            gpu_share=gpu_share,
        )

    def _folder(self, uid: str) -> str:
        """Return the folder of a trial's checkpoints."""
        return str((self._checkpoints / uid).require_below(self._checkpoints))

    def log_end(self, trial: Trial, key: AttemptKey, end: str, failure: Failure | None) -> None:
        """Append the end of an attempt to the trial's log; its worker may be dead.

        Called before the ledger records the end, so that its readers find the complete log.
        """
        log = self._log_path(trial)
        if log is None:
            return
        text = f"attempt {key.number} of trial {trial.number} ended: {end}"
        if failure is not None:
            text += f": {failure.message}\n{failure.traceback}"
        attempt_log.append(log, text)

    def _best_epoch(self, trial: Trial) -> BestEpoch | None:
        """Return the rule of the best epoch, with the best one so far; None keeps no such epoch."""
        objectives, name = self._config.objectives, self._config.checkpoint
        judge = epoch_objective(objectives, name)
        if judge is None:
            return None
        best = scored_measurement(trial, objectives, name)
        return BestEpoch(
            metric=judge.metric,
            direction=judge.direction,
            earlier=None if best is None or not trial.own_measurements else best.checkpoint,
        )

    def log_dropped_metrics(
        self, trial: Trial, fidelity: int, metrics: Mapping[str, float]
    ) -> None:
        """Append an epoch's metrics that cannot be recorded to the trial's log."""
        log = self._log_path(trial)
        if log is not None and metrics:
            named = ", ".join(f"{name} {value}" for name, value in sorted(metrics.items()))
            attempt_log.append(log, f"epoch {fidelity}: not recorded, no finite number: {named}")

    def _log_path(self, trial: Trial) -> Path | None:
        return None if self._logs is None else self._logs / f"{trial.number}.log"
