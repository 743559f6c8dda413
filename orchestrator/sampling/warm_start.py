"""Warm start: use the results of earlier studies.

On the same data, complete trials answer equal candidates without training, and trials of the same
space are transferred into the sampler's history. On other data no result is reused: the study only
informs the sampler `auto`, as far as both rank candidates alike. Trials that ended after this study
began are ignored, so a resumed study sees the same results as at its start. Only reads the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import sanitize
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.objective import violations_of
from orchestrator.sampling.transfer.source_model import SourceStudy
from orchestrator.trial import OPERATOR, Trial, TrialState
from search_spaces.errors import ArchscoutError
from search_spaces.plugins import did_you_mean
from workers.data.spec import NO_DATA

_TRANSFERRED_REASONS = frozenset({None, "rung", "diverged", OPERATOR})
"""Reasons of trials that are transferred; infeasible ones depend on another study's bounds."""


class WarmStartError(ArchscoutError, ValueError):
    """A study cannot reuse the results of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyIdentity:
    """The properties that two studies must share for results to be comparable."""

    data_digest: str
    code_digest: str | None
    space: tuple[str, str]
    """Name and version; trials of another space are reused, but not transferred."""
    teacher_sha256: str | None = None
    """Digest of the teacher's manifest as the ledger keeps it; None without a teacher."""
    began: float | None = None
    """Creation time, in seconds since the epoch; None for a new study."""

    @classmethod
    def from_row(cls, row: StudyRow) -> "StudyIdentity":
        """Return the identity of a recorded study."""
        return cls(
            data_digest=row.data_digest,
            code_digest=row.code_digest,
            space=(row.space_name, row.space_version),
            teacher_sha256=row.teacher_sha256,
            began=row.created,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """Results of earlier studies."""

    complete: Mapping[str, Trial] = field(default_factory=dict)
    """Complete trials by digest; of equal ones, that of the study named first."""
    transferred: Sequence[Trial] = ()
    """Ended trials of the same space, with violations of this study's constraints."""
    sources: Sequence[SourceStudy] = ()
    """Studies on other data, in the order in which `warm_start` names them."""

    @property
    def transferred_uids(self) -> frozenset[str]:
        """Uids of the transferred trials, which the sampler already knows."""
        return frozenset(trial.uid for trial in self.transferred)

    def describe(self) -> str:
        """Return what is used of the earlier studies, in words; empty without any."""
        parts = [
            f"{len(study.trials)} trials of {study.name} on other data, as a prior"
            for study in self.sources
        ]
        if self.complete:
            parts.insert(0, f"{len(self.complete)} results on the same data")
        if self.transferred:
            parts.insert(1, f"{len(self.transferred)} trials in the sampler's history")
        return "; ".join(parts)


NO_WARM_START = WarmStart()


def load_warm_start(
    ledger: Ledger | None, config: StudyConfig, identity: StudyIdentity
) -> WarmStart:
    """Load the results of the studies named by `warm_start`.

    Args:
        ledger: Ledger of the earlier studies; None where there is none yet.
        config: The study's.
        identity: The study's.

    Raises:
        WarmStartError: A study does not exist, or its results are not comparable.
    """
    complete: dict[str, Trial] = {}
    transferred: list[Trial] = []
    sources: list[SourceStudy] = []
    for index, name in enumerate(config.warm_start):
        where = f"warm_start[{index}]"
        row = None if ledger is None else ledger.study(name)
        if ledger is None or row is None:
            names = [] if ledger is None else [known.name for known in ledger.studies()]
            raise WarmStartError(
                f"{where}: there is no study '{sanitize(name)}'.{did_you_mean(name, names)}"
            )
        other = _require_comparable(where, row, config, identity)
        ended = _ended(ledger.trials(row.id), identity.began)
        if _on_other_data(row, identity):
            sources.append(SourceStudy(name=name, budget=other.budget, trials=ended))
            continue
        for trial in ended:
            if trial.state is TrialState.COMPLETE:
                complete.setdefault(trial.digest, trial)
            if (row.space_name, row.space_version) == identity.space:
                transferred.append(_with_violations(trial, config))
    return WarmStart(complete=complete, transferred=transferred, sources=sources)


def _require_comparable(
    where: str, row: StudyRow, config: StudyConfig, identity: StudyIdentity
) -> StudyConfig:
    """Return the config of an earlier study.

    Raises:
        WarmStartError: Its results are not comparable.
    """
    if row.name == config.name:
        raise WarmStartError(
            f"warm_start: study '{row.name}' cannot reuse its own results; remove it"
        )
    try:
        other = StudyConfig.from_json(row.config_json)
    except ValidationError:
        raise _not_comparable(where, row, ["release's config"]) from None
    if not _on_other_data(row, identity):
        pairs = {
            "training code": (row.code_digest, identity.code_digest),
            "budget": (other.budget, config.budget),
            "list of objectives": (other.objectives, config.objectives),
            "checkpoint": (other.checkpoint, config.checkpoint),
            "teacher": (row.teacher_sha256, identity.teacher_sha256),
        }
    elif config.sampler.name == "auto":
        pairs = {
            "space": (row.space_name, identity.space[0]),
            "list of objectives": (other.objectives, config.objectives),
        }
    else:
        raise WarmStartError(
            f"{where}: study '{row.name}' has another data set; only the sampler auto learns from "
            f"it, not {config.sampler.name}; remove it, or set sampler.name to auto"
        )
    if differing := [what for what, (theirs, ours) in pairs.items() if theirs != ours]:
        raise _not_comparable(where, row, differing)
    return other


def _not_comparable(where: str, row: StudyRow, differing: Sequence[str]) -> WarmStartError:
    return WarmStartError(
        f"{where}: results of study '{row.name}' are not comparable: it has another "
        f"{' and another '.join(differing)}; remove it, or use the same"
    )


def _on_other_data(row: StudyRow, identity: StudyIdentity) -> bool:
    """Return True if a study has other data; own training without data has no digest."""
    digests = {row.data_digest, identity.data_digest}
    return NO_DATA not in digests and len(digests) > 1


def _ended(trials: Sequence[Trial], before: float | None) -> list[Trial]:
    """Return the trained trials that had ended before a time."""
    return [
        trial
        for trial in trials
        if trial.state in {TrialState.COMPLETE, TrialState.PRUNED}
        and trial.reason in _TRANSFERRED_REASONS
        and (before is None or (trial.ended or 0.0) <= before)
    ]


def _with_violations(trial: Trial, config: StudyConfig) -> Trial:
    """Return the trial with its violations of this study's constraints."""
    violations = violations_of(trial.cost, config.constraints)
    return replace(trial, violations=violations, sampler_attrs={})
