"""Promotion of a trial, from its first step to its last.

    The operation is recorded in the ledger; the model is uploaded to MLflow and becomes a version;
    a clean process fetches it back, verifies it and must reproduce the recorded scores; it is
    compared with the champion; the held-out test set is scored; the alias moves by compare-and-set.

Each completed step is recorded, so that the same command continues after a crash.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import PromotionRefusedError
from orchestrator.formatting import format_number, format_score
from orchestrator.ledger import AliasMovedError, Holder, Ledger, LedgerError, Promotion
from orchestrator.promotion import package
from orchestrator.promotion.clean_model import VerifiedModel
from orchestrator.promotion.comparison import (
    Comparison,
    compare_on_unseen,
    compare_recorded,
    score,
)
from orchestrator.promotion.description import as_tags, version_description, version_tags
from orchestrator.promotion.loading import expected_manifest, recorded_manifest
from orchestrator.promotion.registry import OPENINGS, Champion, ModelRegistry, model_uri
from orchestrator.promotion.winner import Winner
from orchestrator.tracking.deletion import mlflow_errors
from orchestrator.tracking.experiment import experiment_name
from workers.data import Split
from workers.failpoints import fault

TOLERANCE, REDUCED_TOLERANCE = 1 / 500, 1 / 100
"""Share of validation examples that may change class, or relative difference of an error: another
processor or number of threads rounds sums differently, which changes values and the class of
borderline examples. Reduced precision changes them more."""

_NOT_COMPARED = (
    "the two cannot be compared; choose another --model or --alias, or replace it anyway with "
    "--force --reason TEXT"
)

OpenModel = Callable[[str, str, Mapping[str, str] | None], AbstractContextManager[VerifiedModel]]
"""Opens a model by its address, manifest digest and code digests in a clean process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """Result of a promotion."""

    version: int
    """Version that the alias now points to."""
    validation: Mapping[str, float]
    """`accuracy`, `mae` or `rmse` of the registered model, equal to the recorded ones."""
    test: Mapping[str, float]
    """The same on the held-out test set."""
    test_openings: int
    """Number of evaluations on this test set so far, by all promotions."""
    replaced: int | None
    """Version that the alias pointed to before; None if there was none."""
    was_done: bool
    """True if an earlier command had completed the promotion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoter:
    """Promotion of one trial to one alias of one registered model.

    Examples:
        >>> promoted = Promoter(winner=winner, model="digits", alias="champion", ...).promote()
        >>> promoted.version
        3
    """

    winner: Winner
    model: str
    alias: str
    ledger: Ledger
    registry: ModelRegistry
    open_model: OpenModel
    """Opens a registered model in a clean process."""
    catch_up: Callable[[], str]
    """Projects missing runs onto MLflow; returns why some are still missing, empty if none
    are or if the reason is unknown."""
    sync: str
    """The command that projects the study again, for messages."""
    say: Callable[[str], None]
    """Prints each step."""
    holder: Holder
    forced: str | None = None
    """The user's reason to replace the champion without comparison; it is recorded."""

    @property
    def operation(self) -> str:
        """Identity of the promotion: a digest of trial, model and alias."""
        named = f"{self.winner.trial.uid}\n{self.model}\n{self.alias}"
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def promote(self) -> Promoted:
        """Run the remaining steps.

        Raises:
            PromotionRefusedError: A check failed; the alias did not move.
            AliasMovedError: Another promotion moved the alias first.
            PromotionHeldError: Another process runs the same promotion.
        """
        promotion = self.ledger.promotions.begin(
            self.operation,
            study_id=self.winner.study.id,
            trial_uid=self.winner.trial.uid,
            model=self.model,
            alias=self.alias,
            holder=self.holder,
        )
        with mlflow_errors():
            run = self._run()
            try:
                return self._resume(promotion, run)
            except (PromotionRefusedError, AliasMovedError) as refusal:
                self._record_refusal(str(refusal))
                raise

    def _resume(self, promotion: Promotion, run: Run) -> Promoted:
        champion = self.registry.champion(self.model, self.alias)
        is_current = champion is not None and champion.version == promotion.version
        if is_current and promotion.state in {"moving", "done"}:
            return self._finish(
                promotion, run, promotion.expected_version, was_done=promotion.state == "done"
            )
        self._require_better(promotion, champion)  # before a version is registered that would lose
        if promotion.state in {"begun", "refused"}:
            promotion = self._register(run)
        verified, champion, moves = self._verify(promotion)
        replaced = None if champion is None else champion.version
        self.ledger.promotions.claim(
            self.operation, self.holder, expected_version=replaced, moves=moves
        )
        now = self.registry.champion(self.model, self.alias)
        if (None if now is None else now.version) != replaced:
            raise AliasMovedError(self.model, self.alias, "it was moved in MLflow")
        self.say(f"moving {self.model}@{self.alias} to version {verified.version}")
        fault("promotion.alias_claimed")
        self.registry.set_alias(self.model, self.alias, _version(verified))
        fault("promotion.alias_moved")
        return self._finish(verified, run, replaced, was_done=False)

    def _run(self) -> Run:
        experiment, uid = experiment_name(self.winner.config), self.winner.trial.uid
        run, behind = self.registry.run_of(experiment, uid), ""
        if run is None:
            self.say("MLflow does not show the trial yet: waiting for it")
            behind = self.catch_up()
            run = self.registry.run_of(experiment, uid)
        if run is None:
            raise PromotionRefusedError(
                f"MLflow has no run of trial {self.winner.trial.number}"
                f"{f' ({behind})' if behind else ''}; project the study again with: {self.sync}"
            )
        return run

    def _register(self, run: Run) -> Promotion:
        """Upload the files, then register the version that points to them."""
        self.say("writing the model")
        artifact_path = f"promotion/{self.operation}"
        with tempfile.TemporaryDirectory(prefix="archscout-model-") as name:
            folder = Path(name) / "model"
            manifest_sha256 = package.build(folder, self.winner.contents)
            self.say("uploading it to MLflow")
            self.registry.upload(run, folder, artifact_path)
            fault("promotion.uploaded")
        tags = version_tags(self.winner) | {"archscout.manifest_sha256": manifest_sha256}
        version = self.registry.version(
            run, artifact_path, self.model, operation=self.operation, tags=tags
        )
        fault("promotion.version_made")
        self.registry.describe(self.model, version, version_description(self.winner, {}))
        return self.ledger.promotions.advance(
            self.operation,
            self.holder,
            "registered",
            version=version,
            detail={"manifest_sha256": manifest_sha256, **self.winner.identity},
        )

    def _verify(self, registered: Promotion) -> tuple[Promotion, Champion | None, int]:
        """Verify the model fetched back from MLflow, compare it with the champion, and test it."""
        uri = model_uri(self.model, _version(registered))
        self.say(f"fetching {uri} back into a clean process")
        digest = str(registered.detail["manifest_sha256"])
        with self.open_model(uri, digest, package.expected_code(self.winner.user_code)) as model:
            self.say("scoring the validation split")
            scores = self._score(model, self.winner.dataset.validation)
            self._require_reproduced(scores)
            # An earlier attempt may have compared it with another champion.
            earlier = {"compared": None, "forced": None}
            updated = self._advance("verified", _prefixed("val", scores) | earlier)
            # In this order, so that `claim` detects a move of the alias in between.
            moves = self.ledger.promotions.moves(self.model, self.alias)
            champion = self.registry.champion(self.model, self.alias)
            updated = self._require_better(updated, champion, model)
            if not {*_prefixed("test", scores)} <= {*updated.detail}:
                updated = self._test(model, updated)
        return updated, champion, moves

    def _test(self, model: VerifiedModel, verified: Promotion) -> Promotion:
        """Score the held-out test set; the evaluation is recorded first, so that none is missed."""
        self.say("scoring the held-out test set")
        openings = verified.detail.get("test_openings", 0) + 1
        # With its digests: an earlier release that registered the version may lack them.
        self._advance("verified", {"test_openings": openings, **self.winner.identity})
        tags = {OPENINGS: str(openings)} | as_tags(self.winner.identity)
        self.registry.tag(self.model, _version(verified), tags)
        scores = self._score(model, self.winner.dataset.open_test())
        return self._advance("tested", _prefixed("test", scores))

    def _score(self, model: VerifiedModel, split: Split) -> dict[str, float]:
        return score(self.winner, model, split, self.winner.preprocessing)

    def _openings(self) -> int:
        """Return the number of evaluations on the test set, by all homes of the registry."""
        identity = self.winner.identity
        promotions = self.ledger.promotions.all()
        here: int = sum(
            promotion.detail.get("test_openings", 0)
            for promotion in promotions
            if any(promotion.detail.get(name) == digest for name, digest in identity.items())
        )
        known = {promotion.operation for promotion in promotions}
        return here + self.registry.openings(as_tags(identity), excluding=known)

    def _finish(
        self, verified: Promotion, run: Run, replaced: int | None, *, was_done: bool
    ) -> Promoted:
        version = _version(verified)
        openings = self._openings()
        if not was_done:
            self.registry.tag(
                self.model,
                version,
                {
                    **as_tags(_prefixed("test", self._scores_of(verified, "test"))),
                    "archscout.test_openings": str(openings),
                    "archscout.promotion": "done",
                },
            )
            text = version_description(self.winner, verified.detail)
            self.registry.describe(self.model, version, text)
            self.registry.tag_run(run, f"{self.model}@{self.alias}, version {version}")
            self._advance("done", {})
        return Promoted(
            version=version,
            validation=self._scores_of(verified, "val"),
            test=self._scores_of(verified, "test"),
            test_openings=openings,
            replaced=replaced,
            was_done=was_done,
        )

    def _scores_of(self, verified: Promotion, split: str) -> dict[str, float]:
        """Return the recorded scores of a split: `val` or `test`."""
        return {name: verified.detail[f"{split}_{name}"] for name in self.winner.scores}

    def _require_reproduced(self, scores: Mapping[str, float]) -> None:
        count = len(self.winner.dataset.validation)
        precision = self.winner.contents.precision
        tolerance = TOLERANCE if precision == "float32" else REDUCED_TOLERANCE
        for name, recorded in self.winner.scores.items():
            # Accuracy changes in steps of one example, an error continuously.
            allowed = max(1, int(tolerance * count)) / count
            if name != "accuracy":
                allowed = tolerance * max(recorded, 1e-6)
            if abs(scores[name] - recorded) > allowed * (1 + 1e-9):
                raise PromotionRefusedError(
                    f"fetched back from MLflow, the model has {format_score(name, scores[name])} "
                    f"on validation; the search recorded {format_number(recorded)}. They differ by "
                    f"more than the tolerance of {precision}; promote it on a machine like the one "
                    "that trained it, or promote another trial"
                )

    def _require_better(
        self, promotion: Promotion, champion: Champion | None, model: VerifiedModel | None = None
    ) -> Promotion:
        """Refuse a challenger that the champion beats, unless the user forces it.

        Args:
            promotion: The challenger's promotion.
            champion: The version that the alias points to.
            model: The challenger's model, fetched back; None compares recorded metrics only.
        """
        if champion is None or champion.version == promotion.version:
            return promotion
        if self.forced is not None:
            if model is None:
                return promotion
            self.say(f"replacing version {champion.version} without comparison: {self.forced}")
            return self._record("forced", self.forced)
        name = f"version {champion.version} of {self.model}@{self.alias}"
        if "archscout.data_digest" not in champion.tags:
            raise PromotionRefusedError(f"{name} was not promoted by archscout: {_NOT_COMPARED}")
        comparison = compare_recorded(self.winner, champion)
        if comparison is None:
            if model is None:
                return promotion
            self.say(f"{name} was evaluated on other data: scoring both on the newest")
            comparison = self._compare_on_unseen(name, champion, model)
        if comparison.champion_wins:
            raise PromotionRefusedError(
                f"{name} has {comparison.describe()}: it is kept; to replace it anyway, add "
                "--force --reason TEXT"
            )
        return promotion if model is None else self._record("compared", comparison.describe())

    def _compare_on_unseen(self, name: str, champion: Champion, model: VerifiedModel) -> Comparison:
        promotions = self.ledger.promotions.all()
        digest = expected_manifest(self.model, champion, promotions)
        known = recorded_manifest(self.model, champion, promotions)
        code = package.expected_code(None) if known is None else None
        try:
            with self.open_model(model_uri(self.model, champion.version), digest, code) as theirs:
                return compare_on_unseen(self.winner, model, champion, theirs)
        except PromotionRefusedError as refusal:
            raise PromotionRefusedError(
                f"{name} was evaluated on other data, and {refusal}: {_NOT_COMPARED}"
            ) from refusal

    def _record(self, key: str, text: str) -> Promotion:
        """Record the result of the comparison."""
        return self._advance("verified", {key: text})

    def _advance(self, state: str, detail: Mapping[str, Any]) -> Promotion:
        return self.ledger.promotions.advance(self.operation, self.holder, state, detail=detail)

    def _record_refusal(self, reason: str) -> None:
        """Record a refusal on the run and in the ledger; failures must not hide the refusal."""
        target, uid = f"{self.model}@{self.alias}", self.winner.trial.uid
        record_refusal(self.registry, self.winner.config, uid, target, reason)
        with suppress(LedgerError):
            self._advance("refused", {"refused": reason})


def record_refusal(
    registry: ModelRegistry, config: StudyConfig, trial_uid: str, target: str, reason: str
) -> None:
    """Write the reason of a refusal to the trial's run; errors of MLflow are ignored."""
    with suppress(MlflowException):
        run = registry.run_of(experiment_name(config), trial_uid)
        if run is not None:
            registry.tag_run(run, f"refused for {target}: {reason}")


def _prefixed(split: str, scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores by metric, prefixed with the split."""
    return {f"{split}_{name}": score for name, score in scores.items()}


def _version(promotion: Promotion) -> int:
    assert promotion.version is not None  # noqa: S101  # Every step after `registered` has one.
    return promotion.version
