"""Warm start: what a study takes over from earlier ones on the same data.

Complete trials of theirs answer equal candidates without training, and where they searched the same
space their trials are the sampler's first history. What they found after this study began does not
count: a resumed study sees what it saw at first. Reads the ledger, and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import sanitize
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.trial import Trial, TrialState
from search_spaces.errors import ArchscoutError
from search_spaces.plugins import did_you_mean
from workers.data.spec import NO_DATA

_TEACHING = frozenset({None, "rung", "diverged"})
"""Reasons of trials that teach a sampler; infeasible ones were so by another study's bounds."""


class WarmStartError(ArchscoutError, ValueError):
    """A study cannot start from another; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyIdentity:
    """What must be equal in two studies for a result of one to hold in the other."""

    data_digest: str
    code_digest: str | None
    space: tuple[str, str]
    """Its name and version as the ledger keeps them; trials of another space answer, but are no
    history."""
    teacher_sha256: str | None = None
    """Digest of the teacher's manifest as the ledger keeps it; None without a teacher."""
    began: float | None = None
    """When the study began; None for one that is about to."""

    @classmethod
    def from_row(cls, row: StudyRow) -> "StudyIdentity":
        """A recorded study's."""
        return cls(
            data_digest=row.data_digest,
            code_digest=row.code_digest,
            space=(row.space_name, row.space_version),
            teacher_sha256=row.teacher_sha256,
            began=row.created,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """What earlier studies found."""

    answers: Mapping[str, Trial] = field(default_factory=dict)
    """Complete trials by digest; of equal ones that of the study named first."""
    history: Sequence[Trial] = ()
    """Ended trials of the same space, their costs held against this study's constraints."""

    @property
    def transferred_uids(self) -> frozenset[str]:
        """Uids of the history: who is answered by one of them teaches the sampler nothing new."""
        return frozenset(trial.uid for trial in self.history)


NO_WARM_START = WarmStart()


def load_warm_start(ledger: Ledger | None, config: StudyConfig, basis: StudyIdentity) -> WarmStart:
    """What the studies named by `warm_start` found.

    Raises:
        WarmStartError: One does not exist, or its results do not hold here.
    """
    answers: dict[str, Trial] = {}
    history: list[Trial] = []
    for index, name in enumerate(config.warm_start):
        row = None if ledger is None else ledger.study(name)
        if ledger is None or row is None:
            names = [] if ledger is None else [known.name for known in ledger.studies()]
            raise WarmStartError(
                f"warm_start[{index}]: there is no study "
                f"'{sanitize(name)}'.{did_you_mean(name, names)}"
            )
        if differing := _differing(row, config, basis):
            raise WarmStartError(
                f"warm_start[{index}]: results of study '{name}' do not hold here: it has another "
                f"{' and another '.join(differing)}; remove it, or search alike"
            )
        for trial in _ended(ledger.trials(row.id), basis.began):
            if trial.state is TrialState.COMPLETE:
                answers.setdefault(trial.digest, trial)
            if (row.space_name, row.space_version) == basis.space:
                history.append(_held_against(trial, config))
    return WarmStart(answers=answers, history=history)


def _differing(row: StudyRow, config: StudyConfig, basis: StudyIdentity) -> list[str]:
    """What two studies do not have in common."""
    if row.name == config.name:
        raise WarmStartError(f"warm_start: study '{row.name}' cannot start from itself; remove it")
    try:
        other = StudyConfig.from_json(row.config_json)
    except ValidationError:
        return ["release's config"]
    pairs = {
        "data set": _data(row.data_digest, basis.data_digest),
        "training code": (row.code_digest, basis.code_digest),
        "budget": (other.budget, config.budget),
        "list of objectives": (other.objectives, config.objectives),
        "teacher": (row.teacher_sha256, basis.teacher_sha256),
    }
    return [what for what, (theirs, ours) in pairs.items() if theirs != ours]


def _data(theirs: str, ours: str) -> tuple[str, str]:
    """Digests to compare; whose own training names no data is known by its code alone."""
    return ("", "") if NO_DATA in {theirs, ours} else (theirs, ours)


def _ended(trials: Sequence[Trial], before: float | None) -> list[Trial]:
    """Trials that were trained, and had ended by then."""
    return [
        trial
        for trial in trials
        if trial.state in {TrialState.COMPLETE, TrialState.PRUNED}
        and trial.reason in _TEACHING
        and (before is None or (trial.ended or 0.0) <= before)
    ]


def _held_against(trial: Trial, config: StudyConfig) -> Trial:
    """The trial with the violations that it has under this study's constraints."""
    violations = {
        c.metric: c.violation(trial.cost[c.metric])
        for c in config.constraints
        if c.metric in trial.cost
    }
    return replace(trial, violations=violations, sampler_attrs={})
