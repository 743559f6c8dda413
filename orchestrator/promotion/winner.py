"""Trial to promote, with its checkpoint and data.

Read-only. Refuses a checkpoint, data or user code that have changed since the trial's evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.checks import user_object
from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.answer import answer
from orchestrator.confirmation.plan import KIND
from orchestrator.errors import PromotionRefusedError
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.objective import best, scored_measurement
from orchestrator.promotion.package import Contents, has_users_blocks
from orchestrator.trial import REUSED, Trial, TrialState
from search_spaces.architecture import Architecture
from search_spaces.plugins import UserFileError, load_user_object
from search_spaces.user_code import UserCode
from workers import checkpoint
from workers.checkpoint import Checkpoint, CheckpointError
from workers.data import Dataset, Preprocessing, load
from workers.data.identity import test_split_identity
from workers.measurement import Measurement
from workers.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """Trial with everything that its promotion needs."""

    study: StudyRow
    config: StudyConfig
    trial: Trial
    architecture: str
    """The network in one line."""
    scores: Mapping[str, float]
    """Recorded `accuracy`, and `mae` of one or `rmse` of several regression targets, on validation
    at the epoch of its values."""
    dataset: Dataset
    preprocessing: Preprocessing | None
    """Preprocessing of files to inputs; None for vectors."""
    checkpoint: Checkpoint
    user_code: UserCode | None
    """The user's own file and its local imports, if the network uses their blocks."""
    identity: Mapping[str, str]
    """Digests that identify the held-out test set: `data_digest` of the study, and those of
    `workers.data.identity`."""

    @property
    def measurement(self) -> Measurement:
        """Return the measurement that gave it its values; the checkpoint is of the same epoch."""
        return _measurement(self.config, self.trial)

    @property
    def contents(self) -> Contents:
        """Return the contents of its model."""
        return Contents(
            checkpoint=self.checkpoint,
            candidate=self.trial.candidate,
            precision=str(self.checkpoint.state["precision"]),
            dataset=self.dataset,
            preprocessing=self.preprocessing,
            user_code=self.user_code,
            origin={
                "study": self.study.name,
                "trial": self.trial.number,
                "trial_uid": self.trial.uid,
                "candidate_digest": self.trial.digest,
                "epoch": self.measurement.fidelity,
                "data_digest": self.study.data_digest,
                **{f"val_{name}": score for name, score in self.scores.items()},
                "architecture": self.architecture,
            },
        )


def select_trial(trials: Sequence[Trial], config: StudyConfig, number: int | None) -> Trial:
    """Return the trial of this number, else the confirmed winner, else the best one.

    The confirmed winner is the trial of the search, not its best confirmation: that one was lucky
    with its seed, and its recorded value is what the registry must reproduce.

    Raises:
        PromotionRefusedError: None has reached the full budget.
    """
    if number is not None:
        return trials[number]
    confirmed = answer(config.name, trials, config.objectives).winner
    chosen = best(trials, config.objectives) if confirmed is None else trials[confirmed]
    if chosen is None:
        raise PromotionRefusedError(f"no trial of '{config.name}' has reached the full budget yet")
    return chosen


def load_winner(
    ledger: Ledger, study: StudyRow, config: StudyConfig, trial: Trial, checkpoints: Storage
) -> Winner:
    """Load and verify a trial's checkpoint and data.

    Args:
        ledger: The ledger that has the trial.
        study: The trial's study.
        config: The study's config.
        trial: The trial to promote.
        checkpoints: Folder of the checkpoints of all studies.

    Raises:
        PromotionRefusedError: They have changed since the trial's evaluation.
        DataError: The data cannot be read.
    """
    _require_model(config, trial)
    _require_trained_here(ledger, config, trial)
    loaded = _load_checkpoint(config, trial, checkpoints / study.name / trial.uid)
    user_code = _user_code(study, config, trial)
    dataset = load(config.data)
    if dataset.digest != study.data_digest:
        raise PromotionRefusedError(
            f"the data are not those of the search (now {dataset.digest[:12]}, then "
            f"{study.data_digest[:12]}): restore them, or search on the new ones"
        )
    if set(dataset.task.inputs) not in ({"image"}, {"vector"}):
        raise PromotionRefusedError("only models of images or of vectors are promoted")
    return Winner(
        study=study,
        config=config,
        trial=trial,
        architecture=trial.describe,
        scores=_recorded_scores(config, trial, dataset),
        dataset=dataset,
        preprocessing=dataset.preprocessing,
        checkpoint=loaded,
        user_code=user_code,
        identity={"data_digest": study.data_digest} | test_split_identity(dataset),
    )


def _require_model(config: StudyConfig, trial: Trial) -> None:
    """Refuse trials without a complete model of ours."""
    if trial.state is not TrialState.COMPLETE:
        raise PromotionRefusedError(
            f"trial {trial.number} is {trial.state}: only trials that reached the full budget are "
            f"promoted; see archscout leaderboard {config.name}"
        )
    if trial.kind == KIND:
        raise PromotionRefusedError(
            f"trial {trial.number} confirms another trial of '{config.name}' and keeps no "
            "checkpoint; promote that one"
        )
    if config.train is not None:
        raise PromotionRefusedError(
            "this study trains by your own code, which keeps its own models"
        )


def _require_trained_here(ledger: Ledger, config: StudyConfig, trial: Trial) -> None:
    """Refuse a transferred result, whose checkpoint belongs to an earlier study."""
    if trial.reason != REUSED:
        return
    for name in config.warm_start:
        row = ledger.study(name)
        for origin in [] if row is None else ledger.trials(row.id):
            if origin.uid == trial.parent:
                raise PromotionRefusedError(
                    f"trial {trial.number} was not trained here: its result is that of trial "
                    f"{origin.number} of '{name}'; promote that one: "
                    f"archscout promote {name} --trial {origin.number} --model MODEL"
                )


def _measurement(config: StudyConfig, trial: Trial) -> Measurement:
    """Return the measurement that gave a complete trial its values.

    Raises:
        PromotionRefusedError: It has none: it was not trained here.
    """
    found = scored_measurement(trial, config.objectives, config.checkpoint)
    if found is None or trial.reached != config.budget.maximum:
        raise PromotionRefusedError(
            f"trial {trial.number} kept no checkpoint of the full budget: it was not trained here"
        )
    return found


def _load_checkpoint(config: StudyConfig, trial: Trial, folder: Storage) -> Checkpoint:
    """Return the checkpoint of the epoch that gave the trial its values."""
    measured = _measurement(config, trial)
    if measured.checkpoint is None:
        raise PromotionRefusedError(
            f"trial {trial.number} kept no checkpoint: it was not trained here"
        )
    try:
        loaded = checkpoint.load(measured.checkpoint, folder)
    except CheckpointError as error:
        raise PromotionRefusedError(
            f"the checkpoint of trial {trial.number} is damaged: {error}; "
            "promote another trial with --trial"
        ) from error
    if loaded.epoch != measured.fidelity or "precision" not in loaded.state:
        raise PromotionRefusedError(
            f"the checkpoint of trial {trial.number} is of epoch {loaded.epoch} instead of "
            f"{measured.fidelity}, or of another release"
        )
    return loaded


def _recorded_scores(config: StudyConfig, trial: Trial, dataset: Dataset) -> dict[str, float]:
    measured = _measurement(config, trial).metrics
    names = ["accuracy"] if dataset.class_names else []
    if dataset.value_names:
        # Errors in different units cannot be averaged.
        names.append("mae" if len(dataset.value_names) == 1 else "rmse")
    for name in names:
        if f"val_{name}" not in measured:
            raise PromotionRefusedError(f"trial {trial.number} has no val_{name} at its epoch")
    return {name: measured[f"val_{name}"] for name in names}


def _user_code(study: StudyRow, config: StudyConfig, trial: Trial) -> UserCode | None:
    """Return the user's files if the network uses their blocks; they run only if unchanged."""
    if user_object(config.space_base) is None:
        return None
    try:
        code = UserCode.read([config.space_base])
    except UserFileError:
        code = None
    if code is None or code.digest != study.code_digest:
        raise PromotionRefusedError(
            f"{Path.cwd() / config.space_base.rpartition(':')[0]} or what it imports is not the "
            "file of the search; restore it, and promote from the folder that the search was "
            "started in"
        )
    load_user_object(config.space_base, Path.cwd())  # registers their blocks
    architecture = Architecture.from_dict(trial.candidate["architecture"])
    return code if has_users_blocks(architecture) else None
