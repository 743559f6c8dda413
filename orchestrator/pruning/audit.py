"""Audit of successive halving: how well rungs rank trials, and what pruning at them cost.

One trial in AUDIT_EVERY trains to the end whatever its rank. Those that a rung would not have
promoted represent all trials that it did not promote, so complete trials and rungs can be compared
without the selection by the rungs: they count AUDIT_EVERY times, promoted trials once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.formatting import format_number
from orchestrator.objective import (
    CheckpointName,
    Objective,
    main_objective,
    pareto_order,
    rung_objectives,
    scored_measurement,
)
from orchestrator.pruning.promotions import AUDIT_EVERY, is_audited, num_promoted
from orchestrator.pruning.rank_correlation import rank_correlation
from orchestrator.pruning.rungs import first_rung
from orchestrator.pruning.scores import score_at, scores_at
from orchestrator.trial import CONTINUE, Trial, TrialState, newest_continuations
from workers.budget import Budget

_SEARCHED = frozenset({"search", CONTINUE})

MIN_AUDITED = 3
"""Audited trials below which no rank correlation is estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningAudit:
    """Result of an audit."""

    metric: str
    """Metric that trials are compared by."""
    pruned: int
    """Trials that rungs have pruned or paused."""
    audited: int
    """Trials trained to the end that a rung would not have promoted."""
    best_audited: float | None
    """Best final value of these; None without any."""
    best_promoted: float | None
    """Best final value of the promoted trials; None without any."""
    lost: float | None
    """Improvement of the best audited trial over the best promoted one, at least 0."""
    in_best_third: int
    """Audited trials that end in the best third of all complete ones."""
    correlations: tuple[tuple[int, float | None], ...]
    """Rank correlation of each rung with the end, by fidelity; None with too few trials."""

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as plain data."""
        return {
            "metric": self.metric,
            "pruned": self.pruned,
            "audited": self.audited,
            "best_audited": self.best_audited,
            "best_promoted": self.best_promoted,
            "lost": self.lost,
            "in_best_third": self.in_best_third,
            "rank_correlation": {str(rung): value for rung, value in self.correlations},
        }

    def text(self) -> str:
        """Return the audit in one line."""
        pruned = f"audit of rungs: {self.pruned} trial{'' if self.pruned == 1 else 's'} pruned"
        if self.lost is None:
            return f"{pruned}, none of them audited"
        ranked = ", ".join(
            f"{value:.2f} at {rung}" for rung, value in self.correlations if value is not None
        )
        return (
            f"{pruned}; {self.audited} that rungs reject trained to the end for comparison: "
            f"the best has {format_number(self.best_audited or 0.0)}, the best promoted trial "
            f"{format_number(self.best_promoted or 0.0)}; {self.in_best_third} in the best third"
            + (f"; rank correlation with the end: {ranked}" if ranked else "")
        )


@dataclass(frozen=True, slots=True)
class _Ended:
    """A complete trial with its final score, more being better."""

    trial: Trial
    score: float


def audit_pruning(  # noqa: D417 - the config in one line
    trials: Iterable[Trial],
    budget: Budget,
    objectives: Sequence[Objective],
    *,
    seed: int,
    checkpoint: CheckpointName = "last",
    every: int = AUDIT_EVERY,
) -> PruningAudit | None:
    """Return the audit of a study's rungs; None if they have pruned nothing.

    Args:
        trials: The study's trials.
        budget, objectives, seed, checkpoint: Its config.
        every: One in this many trials was audited.
    """
    judge, objectives = main_objective(objectives), rung_objectives(objectives)
    newest = newest_continuations(trials)
    known = [trial for trial in newest if trial.kind in _SEARCHED and trial.measurements]
    pruned = sum(trial.reason == "rung" or trial.paused for trial in known)
    complete = _complete(known, objectives, judge, checkpoint)
    searched = [each.trial for each in complete if each.trial.kind == "search"]
    chosen = [trial for trial in searched if is_audited(seed, trial.number, every)]
    rungs = budget.rungs(first_rung(budget, judge, next(iter(newest), None), chosen))[:-1]
    rejected = _rejected(chosen, known, rungs, objectives, budget.reduction_factor)
    audited = [each for each in complete if each.trial.uid in rejected]
    promoted = [each for each in complete if each.trial.uid not in rejected]
    if not pruned and not audited:
        return None
    best, other = (max((e.score for e in group), default=None) for group in (audited, promoted))
    return PruningAudit(
        metric=judge.metric,
        pruned=pruned,
        audited=len(audited),
        best_audited=None if best is None else judge.score(best),
        best_promoted=None if other is None else judge.score(other),
        lost=None if best is None or other is None else max(0.0, best - other),
        in_best_third=_in_best_third(audited, complete),
        correlations=tuple((r, _correlation(promoted, audited, r, judge, every)) for r in rungs),
    )


def _complete(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    judge: Objective,
    checkpoint: CheckpointName,
) -> list[_Ended]:
    """Return the complete trials with the scores of the epochs that give them their values."""
    return [
        _Ended(trial, judge.score(seen.metrics[judge.metric]))
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and (seen := scored_measurement(trial, objectives, checkpoint)) is not None
        and judge.metric in seen.metrics
    ]


def _rejected(
    chosen: Sequence[Trial],
    trials: Sequence[Trial],
    rungs: Sequence[int],
    objectives: Sequence[Objective],
    reduction_factor: int,
) -> set[str]:
    """Return the uids of those chosen trials that some rung would never have promoted.

    A trial is promoted if it is among the best of a rung when it arrives, in the order of numbers,
    or whenever later arrivals have made room.
    """
    chosen_uids, rejected = {trial.uid for trial in chosen}, set[str]()
    for rung in rungs:
        judged = [
            (trial.uid, scores)
            for trial in sorted(trials, key=lambda t: t.number)
            if trial.reached >= rung and (scores := scores_at(trial, rung, objectives)) is not None
        ]
        keys = pareto_order([scores for _, scores in judged])
        rejected |= {
            uid
            for place, (uid, _) in enumerate(judged)
            if uid in chosen_uids and not _ever_promoted(keys, place, reduction_factor)
        }
    return rejected


def _ever_promoted(keys: Sequence[tuple[float, ...]], place: int, reduction_factor: int) -> bool:
    """Return whether the arrival at a place is among the best then or later."""
    better = 0
    for arrivals, key in enumerate(keys, start=1):
        better += key > keys[place]
        if arrivals > place and better < num_promoted(arrivals, reduction_factor):
            return True
    return False


def _in_best_third(audited: Sequence[_Ended], complete: Sequence[_Ended]) -> int:
    ranked = sorted((each.score for each in complete), reverse=True)
    last = ranked[num_promoted(len(ranked), 3) - 1] if ranked else 0.0
    return sum(each.score >= last for each in audited)


def _correlation(
    promoted: Sequence[_Ended], audited: Sequence[_Ended], rung: int, judge: Objective, every: int
) -> float | None:
    if len(audited) < MIN_AUDITED:
        return None
    rows = [
        (early, each.score, weight)
        for group, weight in ((promoted, 1.0), (audited, float(every)))
        for each in group
        if (early := score_at(each.trial.measurements, rung, judge)) is not None
    ]
    starts, ends, weights = (list(column) for column in zip(*rows, strict=True))
    return rank_correlation(starts, ends, weights)
