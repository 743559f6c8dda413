"""Warm start: reuse the results of earlier studies on the same data.

Complete trials of earlier studies answer equal candidates without training. Trials of the same
space are transferred into the sampler's history. Trials that ended after this study began are
ignored, so a resumed study sees the same results as at its start. Only reads the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import sanitize
from orchestrator.ledger import Ledger, StudyRow
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

    @property
    def transferred_uids(self) -> frozenset[str]:
        """Uids of the transferred trials, which the sampler already knows."""
        return frozenset(trial.uid for trial in self.transferred)


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
    for index, name in enumerate(config.warm_start):
        row = None if ledger is None else ledger.study(name)
        if ledger is None or row is None:
            names = [] if ledger is None else [known.name for known in ledger.studies()]
            raise WarmStartError(
                f"warm_start[{index}]: there is no study "
                f"'{sanitize(name)}'.{did_you_mean(name, names)}"
            )
        if differing := _differences(row, config, identity):
            raise WarmStartError(
                f"warm_start[{index}]: results of study '{name}' are not comparable: it "
                f"has another {' and another '.join(differing)}; remove it, or use the same"
            )
        for trial in _ended(ledger.trials(row.id), identity.began):
            if trial.state is TrialState.COMPLETE:
                complete.setdefault(trial.digest, trial)
            if (row.space_name, row.space_version) == identity.space:
                transferred.append(_with_violations(trial, config))
    return WarmStart(complete=complete, transferred=transferred)


def _differences(row: StudyRow, config: StudyConfig, identity: StudyIdentity) -> list[str]:
    """Return the properties in which two studies differ."""
    if row.name == config.name:
        raise WarmStartError(
            f"warm_start: study '{row.name}' cannot reuse its own results; remove it"
        )
    try:
        other = StudyConfig.from_json(row.config_json)
    except ValidationError:
        return ["release's config"]
    pairs = {
        "data set": _data(row.data_digest, identity.data_digest),
        "training code": (row.code_digest, identity.code_digest),
        "budget": (other.budget, config.budget),
        "list of objectives": (other.objectives, config.objectives),
        "checkpoint": (other.checkpoint, config.checkpoint),
        "teacher": (row.teacher_sha256, identity.teacher_sha256),
    }
    return [what for what, (theirs, ours) in pairs.items() if theirs != ours]


def _data(theirs: str, ours: str) -> tuple[str, str]:
    """Return the digests to compare; own training without data is compared by its code alone."""
    return ("", "") if NO_DATA in {theirs, ours} else (theirs, ours)


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
    violations = {
        c.metric: c.violation(trial.cost[c.metric])
        for c in config.constraints
        if c.metric in trial.cost
    }
    return replace(trial, violations=violations, sampler_attrs={})
