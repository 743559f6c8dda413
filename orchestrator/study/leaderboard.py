"""Leaderboard of a study: its complete trials, best first, as text and as plain data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.answer import Answer, answer
from orchestrator.confirmation.plan import KIND
from orchestrator.confirmation.plateau import plateau
from orchestrator.formatting import format_duration, format_number, format_table
from orchestrator.objective import (
    Objective,
    epoch_objective,
    main_objective,
    pareto_front,
    preference_distances,
    rank,
    scored_measurement,
)
from orchestrator.pruning.audit import PruningAudit, audit_pruning
from orchestrator.trial import PAUSED, REUSED, Trial, TrialState, newest_continuations


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One complete trial."""

    rank: int
    """Rank, from 1."""
    trial: int
    """The trial's number."""
    uid: str
    values: Mapping[str, float]
    """Values by objective, in the study's order."""
    on_front: bool
    """True if no other trial is better in every objective."""
    epochs: int
    best_epoch: int | None
    """Epoch of the values and of the checkpoint; None where that is always the last one."""
    parameters: int | None
    """Trainable parameters of its network; None where nothing was counted."""
    architecture: str
    """Architecture in one line."""
    elapsed_s: float
    """Training time."""
    distance: float | None = None
    """Distance from the preferred point, 0 being best in all; None without a preference."""

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        preferred = {} if self.distance is None else {"distance": self.distance}
        best = {} if self.best_epoch is None else {"best_epoch": self.best_epoch}
        return (
            preferred
            | best
            | {
                "rank": self.rank,
                "trial": self.trial,
                "uid": self.uid,
                "values": dict(self.values),
                "on_front": self.on_front,
                "epochs": self.epochs,
                "parameters": self.parameters,
                "architecture": self.architecture,
                "elapsed_s": self.elapsed_s,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Results of a study so far."""

    study: str
    state: str
    """`running`, `finished`, `interrupted` or `broken`."""
    objectives: tuple[Objective, ...]
    rows: tuple[Row, ...]
    """Complete trials, best first."""
    counts: Mapping[str, int]
    """Number of trials by status: `complete`, `pruned`, `infeasible`, ..."""
    answer: Answer
    """Whether a candidate beats the default, by its confirmation."""
    plateau: str | None = None
    """Why more search is not worth it; None while it is."""
    preferred: Mapping[str, float] | None = None
    """Weight of each objective that orders the front; None orders by the first objective."""
    audit: PruningAudit | None = None
    """Audit of the rungs; None if they pruned nothing."""

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return the leaderboard as plain data.

        Args:
            top: Maximum number of rows; None for all.
        """
        return {
            "study": self.study,
            "state": self.state,
            "objectives": [{"metric": o.metric, "direction": o.direction} for o in self.objectives],
            "counts": dict(self.counts),
            **({} if self.preferred is None else {"preferred": dict(self.preferred)}),
            **({} if self.audit is None else {"audit": self.audit.to_dict()}),
            "trials": [row.to_dict() for row in self.rows[:top]],
            "answer": self.answer.to_dict(),
            "plateau": self.plateau,
        }

    def text(self, top: int | None = None) -> str:
        """Return the leaderboard as text.

        Args:
            top: Maximum number of rows; None for all.
        """
        if not self.rows:
            return f"No trial of '{self.study}' is complete yet ({self._counted()})."
        several = len(self.objectives) > 1
        metrics = [objective.metric for objective in self.objectives]
        head = ["rank", "trial", *metrics, "epochs", "time", "architecture"]
        if "parameters" not in metrics:
            head.insert(-2, "parameters")
        if any(row.best_epoch is not None for row in self.rows):
            head.insert(head.index("epochs") + 1, "best epoch")
        if self.preferred is not None:
            head.insert(2, "distance")
        shown = self.rows[:top]
        body = format_table(
            head, [_cells(row, head, several=several) for row in shown], right=head[:-1]
        )
        notes = [self._counted()]
        if several:
            notes.append("* not dominated: no trial is better in every objective")
        if self.preferred is not None:
            weighed = ", ".join(f"{m} {format_number(w)}" for m, w in self.preferred.items())
            notes.append(f"distance: from the best of all, weighed by {weighed}")
        if len(shown) < len(self.rows):
            notes.append(f"{len(shown)} of {len(self.rows)} complete trials shown")
        if self.audit is not None:
            notes.append(self.audit.text())
        flat = [self.plateau] if self.plateau else []
        return "\n".join([body, *notes, "", *flat, self.answer.text()])

    def _counted(self) -> str:
        words = {REUSED: "known from earlier studies"}
        counted = [
            f"{count} {words.get(name, name)}" for name, count in self.counts.items() if count
        ]
        return ", ".join(counted) or "no trials"


def leaderboard(
    config: StudyConfig,
    state: str,
    trials: Sequence[Trial],
    preferred: Mapping[str, float] | None = None,
    program: str | None = None,
) -> Leaderboard:
    """Rank a study's trials.

    Args:
        config: The study's config.
        state: The study's state, as in the ledger.
        trials: All trials of the study.
        preferred: Weight of each objective; the Pareto front is ordered by it.
        program: How commands are called; None suggests none.
    """
    objectives, program = config.objectives, None if state == "running" else program
    complete = rank(trials, objectives, main_objective(objectives)).complete
    front = {trial.uid for trial in pareto_front(trials, objectives)}
    away = _distances(complete, objectives, preferred)
    if preferred is not None:
        complete = tuple(sorted(complete, key=lambda t: (t.uid not in front, away[t.uid])))
    return Leaderboard(
        study=config.name,
        state=state,
        objectives=objectives,
        rows=tuple(
            replace(
                _row(place, trial, config, on_front=trial.uid in front),
                distance=away.get(trial.uid),
            )
            for place, trial in enumerate(complete, start=1)
        ),
        counts=counts(trials),
        answer=answer(config.name, trials, objectives, program=program),
        plateau=plateau(trials, objectives),
        preferred=preferred,
        audit=_audit(config, trials),
    )


def _audit(config: StudyConfig, trials: Sequence[Trial]) -> PruningAudit | None:
    return audit_pruning(
        trials, config.budget, config.objectives, seed=config.seed, checkpoint=config.checkpoint
    )


def _distances(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    preferred: Mapping[str, float] | None,
) -> dict[str, float]:
    """Return the distance of each trial from the preferred point; none without a preference."""
    if preferred is None:
        return {}
    far = preference_distances([trial.values or () for trial in trials], objectives, preferred)
    return {trial.uid: distance for trial, distance in zip(trials, far, strict=True)}


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """Return the number of trials but confirmations by status, successful ones first.

    A trial that was continued counts as its continuation.
    """
    special = {REUSED, "infeasible", "diverged", "duplicate"}
    found = Counter(
        PAUSED
        if trial.paused
        else trial.reason
        if trial.reason in special and trial.state.is_terminal
        else trial.state.lower()
        for trial in newest_continuations(trials)
        if trial.kind != KIND
    )
    names = {"fail": "failed"}
    order = [state.lower() for state in (TrialState.COMPLETE, TrialState.PRUNED)]
    order += [REUSED, "infeasible", "diverged", "duplicate", "fail", "running", PAUSED, "waiting"]
    return {names.get(name, name): found[name] for name in order if found[name]}


def _row(place: int, trial: Trial, config: StudyConfig, *, on_front: bool) -> Row:
    last = trial.measurements[-1] if trial.measurements else None
    judge = epoch_objective(config.objectives, config.checkpoint)
    scored = scored_measurement(trial, config.objectives, config.checkpoint)
    counted = trial.cost.get("parameters")
    return Row(
        rank=place,
        trial=trial.number,
        uid=trial.uid,
        values={o.metric: v for o, v in zip(config.objectives, trial.values or (), strict=True)},
        on_front=on_front,
        epochs=last.fidelity if last else 0,
        best_epoch=None if judge is None or scored is None else scored.fidelity,
        parameters=None if counted is None else int(counted),
        architecture=trial.describe,
        elapsed_s=last.elapsed_s if last else 0.0,
    )


def _cells(row: Row, head: Sequence[str], *, several: bool) -> list[str]:
    """Return the cells of one row under a heading."""
    mark = "*" if several and row.on_front else ""
    known = {
        "rank": f"{mark}{row.rank}",
        "trial": str(row.trial),
        "distance": "" if row.distance is None else format_number(row.distance),
        "epochs": str(row.epochs),
        "best epoch": "" if row.best_epoch is None else str(row.best_epoch),
        "parameters": "" if row.parameters is None else f"{row.parameters:,}",
        "time": format_duration(row.elapsed_s),
        "architecture": row.architecture,
        **{metric: format_number(value) for metric, value in row.values.items()},
    }
    return [known[name] for name in head]
