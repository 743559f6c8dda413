"""A promotion from its first step to its last: nothing is believed that was not fetched back.

    The operation is written into the ledger; the model goes to MLflow and becomes a version; a
    clean process fetches it back, proves it and must reach the score of the search; it is compared
    with the champion; the sealed test part is scored; the alias moves by compare-and-set.

Each step is recorded once it is done, so that the same command goes on where a crash left off.
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
from orchestrator.formatting import format_number
from orchestrator.ledger import AliasMovedError, Holder, Ledger, LedgerError, Promotion
from orchestrator.promotion import package
from orchestrator.promotion.clean_room import VerifiedModel
from orchestrator.promotion.comparison import (
    Comparison,
    compare_on_unseen,
    compare_recorded,
    recorded_metrics,
    score,
    told,
)
from orchestrator.promotion.loading import expected_manifest, recorded_manifest
from orchestrator.promotion.registry import OPENINGS, Champion, ModelRegistry, model_uri
from orchestrator.promotion.winner import Winner
from orchestrator.tracking.deletion import answering
from orchestrator.tracking.experiment import experiment_name
from workers.data import Split
from workers.failpoints import fault

TOLERANCE, REDUCED_TOLERANCE = 1 / 500, 1 / 100
"""Share of validation examples that may fall the other way, or of an error by which it may differ:
sums are rounded differently on another processor or with other threads, which moves numbers, and
examples that lie between two classes. In reduced precision they move further."""

_NOT_COMPARED = (
    "the two cannot be compared; choose another --model or --alias, or replace it all the same "
    "with --force --reason TEXT"
)

Examine = Callable[[str, str, Mapping[str, str] | None], AbstractContextManager[VerifiedModel]]
"""Opens a clean process on a model's address, its manifest's digest and its code's digests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """How a promotion ended."""

    version: int
    """Where the alias points now."""
    validation: Mapping[str, float]
    """`accuracy`, `mae` or `rmse` by the model in the registry, equal to what was recorded."""
    test: Mapping[str, float]
    """The same on the test part."""
    test_openings: int
    """How often the test part of these data has been opened, by all promotions together."""
    replaced: int | None
    """Where the alias pointed before."""
    was_done: bool
    """Whether an earlier command had done all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoter:
    """Takes one winner to one alias of one model."""

    winner: Winner
    model: str
    alias: str
    ledger: Ledger
    registry: ModelRegistry
    examine: Examine
    """Opens the clean process."""
    catch_up: Callable[[], str]
    """Lets MLflow show what the ledger has, where a run is missing; returns why MLflow does not
    show all of it, empty if it does or if that is not known."""
    sync: str
    """The command that shows the whole study again."""
    say: Callable[[str], None]
    """Told each step."""
    holder: Holder
    forced: str | None = None
    """The user's reason for replacing the champion whatever the comparison says; it is recorded."""

    @property
    def operation(self) -> str:
        """The same for the same trial, model and alias, whoever asks and however often."""
        named = f"{self.winner.trial.uid}\n{self.model}\n{self.alias}"
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def promote(self) -> Promoted:
        """Do what is left to do.

        Raises:
            PromotionRefusedError: A gate did not open; the alias is where it was.
            AliasMovedError: Another promotion won.
            PromotionHeldError: Another process is at this very promotion.
        """
        begun = self.ledger.promotions.begin(
            self.operation,
            study_id=self.winner.study.id,
            trial_uid=self.winner.trial.uid,
            model=self.model,
            alias=self.alias,
            holder=self.holder,
        )
        with answering():
            run = self._run()
            try:
                return self._go_on(begun, run)
            except (PromotionRefusedError, AliasMovedError) as refusal:
                self._record_refusal(str(refusal))
                raise

    def _go_on(self, begun: Promotion, run: Run) -> Promoted:
        champion = self.registry.champion(self.model, self.alias)
        arrived = champion is not None and champion.version == begun.version
        if arrived and begun.state in {"moving", "done"}:
            return self._finish(begun, run, begun.expected_version, was_done=begun.state == "done")
        self._require_better(begun, champion)  # spares the registry a version that cannot win
        if begun.state in {"begun", "refused"}:
            begun = self._register(run)
        proved, champion, moves = self._prove(begun)
        replaced = None if champion is None else champion.version
        self.ledger.promotions.claim(
            self.operation, self.holder, expected_version=replaced, moves=moves
        )
        now = self.registry.champion(self.model, self.alias)
        if (None if now is None else now.version) != replaced:
            raise AliasMovedError(self.model, self.alias, "somebody has moved it in MLflow")
        self.say(f"moving {self.model}@{self.alias} to version {proved.version}")
        fault("promotion.alias_claimed")
        self.registry.point(self.model, self.alias, _version(proved))
        fault("promotion.alias_moved")
        return self._finish(proved, run, replaced, was_done=False)

    def _run(self) -> Run:
        experiment, uid = experiment_name(self.winner.config), self.winner.trial.uid
        run, why = self.registry.run_of(experiment, uid), ""
        if run is None:
            self.say("MLflow does not show the trial yet: catching up")
            why = self.catch_up()
            run = self.registry.run_of(experiment, uid)
        if run is None:
            raise PromotionRefusedError(
                f"MLflow shows no run of trial {self.winner.trial.number}"
                f"{f' ({why})' if why else ''}; show the study again with: {self.sync}"
            )
        return run

    def _register(self, run: Run) -> Promotion:
        """Files first, then the version that points to them."""
        self.say("writing the model")
        place = f"promotion/{self.operation}"
        with tempfile.TemporaryDirectory(prefix="archscout-model-") as name:
            folder = Path(name) / "model"
            manifest_sha256 = package.build(folder, self.winner.contents)
            self.say("uploading it to MLflow")
            self.registry.upload(run, folder, place)
            fault("promotion.uploaded")
        tags = self._tags() | {"archscout.manifest_sha256": manifest_sha256}
        version = self.registry.version(run, place, self.model, operation=self.operation, tags=tags)
        fault("promotion.version_made")
        self.registry.describe(self.model, version, self._description({}))
        return self.ledger.promotions.advance(
            self.operation,
            self.holder,
            "registered",
            version=version,
            detail={"manifest_sha256": manifest_sha256, **self.winner.identity},
        )

    def _prove(self, registered: Promotion) -> tuple[Promotion, Champion | None, int]:
        """The model as MLflow gives it back must do what the search said; then it may compete."""
        uri = model_uri(self.model, _version(registered))
        self.say(f"fetching {uri} back into a clean process")
        digest = str(registered.detail["manifest_sha256"])
        with self.examine(uri, digest, package.expected_code(self.winner.user_code)) as model:
            self.say("scoring the validation part")
            scores = self._score(model, self.winner.dataset.validation)
            self._check(scores)
            # A comparison of an earlier attempt was with another champion.
            earlier = {"compared": None, "forced": None}
            found = self._advance("verified", _under("val", scores) | earlier)
            # In this order: a move between the two is one that the claim will see.
            moves = self.ledger.promotions.moves(self.model, self.alias)
            champion = self.registry.champion(self.model, self.alias)
            found = self._require_better(found, champion, model)
            if not {*_under("test", scores)} <= {*found.detail}:
                found = self._test(model, found)
        return found, champion, moves

    def _test(self, model: VerifiedModel, verified: Promotion) -> Promotion:
        """Open the sealed part; that is written down first, so that no opening goes unseen."""
        self.say("scoring the sealed test part")
        openings = verified.detail.get("test_openings", 0) + 1
        # With its digests: an earlier release that registered the version may not have known them.
        self._advance("verified", {"test_openings": openings, **self.winner.identity})
        tags = {OPENINGS: str(openings)} | _tags_of(self.winner.identity)
        self.registry.tag(self.model, _version(verified), tags)
        scores = self._score(model, self.winner.dataset.open_test())
        return self._advance("tested", _under("test", scores))

    def _score(self, model: VerifiedModel, split: Split) -> dict[str, float]:
        return score(self.winner, model, split, self.winner.preprocessing)

    def _openings(self) -> int:
        """Return how often the test part was opened, by this home and by others of its registry."""
        identity = self.winner.identity
        promotions = self.ledger.promotions.all()
        here: int = sum(
            promotion.detail.get("test_openings", 0)
            for promotion in promotions
            if any(promotion.detail.get(name) == digest for name, digest in identity.items())
        )
        known = {promotion.operation for promotion in promotions}
        return here + self.registry.openings(_tags_of(identity), besides=known)

    def _finish(
        self, proved: Promotion, run: Run, replaced: int | None, *, was_done: bool
    ) -> Promoted:
        version = _version(proved)
        openings = self._openings()
        if not was_done:
            self.registry.tag(
                self.model,
                version,
                {
                    **_tags_of(_under("test", self._of(proved, "test"))),
                    "archscout.test_openings": str(openings),
                    "archscout.promotion": "done",
                },
            )
            text = self._description(proved.detail)
            self.registry.describe(self.model, version, text)
            self.registry.note(run, f"{self.model}@{self.alias}, version {version}")
            self._advance("done", {})
        return Promoted(
            version=version,
            validation=self._of(proved, "val"),
            test=self._of(proved, "test"),
            test_openings=openings,
            replaced=replaced,
            was_done=was_done,
        )

    def _of(self, proved: Promotion, part: str) -> dict[str, float]:
        """What the operation has found out about a part."""
        return {name: proved.detail[f"{part}_{name}"] for name in self.winner.scores}

    def _check(self, scores: Mapping[str, float]) -> None:
        count = len(self.winner.dataset.validation)
        precision = self.winner.contents.precision
        tolerance = TOLERANCE if precision == "float32" else REDUCED_TOLERANCE
        for name, recorded in self.winner.scores.items():
            # Hits are counted, an error is measured.
            allowed = max(1, int(tolerance * count)) / count
            if name != "accuracy":
                allowed = tolerance * max(recorded, 1e-6)
            if abs(scores[name] - recorded) > allowed * (1 + 1e-9):
                raise PromotionRefusedError(
                    f"fetched back from MLflow, the model has {told(name, scores[name])} on "
                    f"validation; the search recorded {format_number(recorded)}. It does not do "
                    f"what was measured in {precision}; promote it on a machine like the one that "
                    "trained it, or promote another trial"
                )

    def _require_better(
        self, promotion: Promotion, champion: Champion | None, model: VerifiedModel | None = None
    ) -> Promotion:
        """Refuse a challenger that the champion beats, unless the user forces it.

        Args:
            promotion: The challenger's.
            champion: What the alias points to.
            model: The challenger, fetched back; without it, only what was recorded is compared.
        """
        if champion is None or champion.version == promotion.version:
            return promotion
        if self.forced is not None:
            if model is None:
                return promotion
            self.say(f"replacing version {champion.version} without comparison: {self.forced}")
            return self._note("forced", self.forced)
        name = f"version {champion.version} of {self.model}@{self.alias}"
        if "archscout.data_digest" not in champion.tags:
            raise PromotionRefusedError(f"{name} was not promoted by archscout: {_NOT_COMPARED}")
        comparison = compare_recorded(self.winner, champion)
        if comparison is None:
            if model is None:
                return promotion
            self.say(f"{name} was judged on other data: scoring both on the newest")
            comparison = self._compare_on_unseen(name, champion, model)
        if comparison.champion_wins:
            raise PromotionRefusedError(
                f"{name} has {comparison.describe()}: it stays; to replace it all the same, add "
                "--force --reason TEXT"
            )
        return promotion if model is None else self._note("compared", comparison.describe())

    def _compare_on_unseen(self, name: str, champion: Champion, model: VerifiedModel) -> Comparison:
        promotions = self.ledger.promotions.all()
        digest = expected_manifest(self.model, champion, promotions)
        known = recorded_manifest(self.model, champion, promotions)
        code = package.expected_code(None) if known is None else None
        try:
            with self.examine(model_uri(self.model, champion.version), digest, code) as theirs:
                return compare_on_unseen(self.winner, model, champion, theirs)
        except PromotionRefusedError as refusal:
            raise PromotionRefusedError(
                f"{name} was judged on other data, and {refusal}: {_NOT_COMPARED}"
            ) from refusal

    def _note(self, key: str, text: str) -> Promotion:
        """Record on the promotion how the comparison went."""
        return self._advance("verified", {key: text})

    def _advance(self, state: str, detail: Mapping[str, Any]) -> Promotion:
        return self.ledger.promotions.advance(self.operation, self.holder, state, detail=detail)

    def _record_refusal(self, reason: str) -> None:
        """On the run and in the ledger; the refusal itself is what the user must see."""
        target, uid = f"{self.model}@{self.alias}", self.winner.trial.uid
        note_refusal(self.registry, self.winner.config, uid, target, reason)
        with suppress(LedgerError):
            self._advance("refused", {"refused": reason})

    def _tags(self) -> dict[str, str]:
        winner = self.winner
        return {
            "archscout.study": winner.study.name,
            "archscout.trial": str(winner.trial.number),
            "archscout.trial_uid": winner.trial.uid,
            "archscout.candidate_digest": winner.trial.digest,
            **_tags_of(winner.identity),
            **_tags_of(recorded_metrics(winner)),
        }

    def _description(self, scores: Mapping[str, Any]) -> str:
        winner = self.winner
        lines = {
            "architecture": winner.architecture,
            "study": f"{winner.study.name}, trial {winner.trial.number}",
            "validation": ", ".join(told(name, score) for name, score in winner.scores.items()),
            "test": ", ".join(
                told(name, scores[f"test_{name}"])
                for name in winner.scores
                if f"test_{name}" in scores
            )
            or "not opened yet",
            "classes": ", ".join(winner.dataset.class_names[:20]) or "none",
            "numbers": ", ".join(winner.dataset.value_names[:20]) or "none",
            **{key: scores[key] for key in ("compared", "forced") if scores.get(key)},
            "data digest": winner.study.data_digest,
            "candidate digest": winner.trial.digest,
        }
        return "\n".join(f"- **{name}**: {text}" for name, text in lines.items())


def note_refusal(
    registry: ModelRegistry, config: StudyConfig, trial_uid: str, target: str, reason: str
) -> None:
    """Say on a trial's run why it was not promoted; no harm where MLflow does not answer."""
    with suppress(MlflowException):
        run = registry.run_of(experiment_name(config), trial_uid)
        if run is not None:
            registry.note(run, f"refused for {target}: {reason}")


def _under(part: str, scores: Mapping[str, float]) -> dict[str, float]:
    """Scores by metric, named after the part."""
    return {f"{part}_{name}": score for name, score in scores.items()}


def _tags_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a version: text as it is, numbers to the last bit."""
    return {
        f"archscout.{name}": fact if isinstance(fact, str) else repr(fact)
        for name, fact in facts.items()
    }


def _version(promotion: Promotion) -> int:
    assert promotion.version is not None  # noqa: S101  # Every step after `registered` has one.
    return promotion.version
