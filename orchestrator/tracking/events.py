"""Fold of a study's events: its trials, their states, and the best values so far.

Knows neither MLflow nor a database. The result depends only on the events and their order, so a
projection that restarts and folds the same events arrives at the same state.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.ledger import Event
from orchestrator.objective import (
    CheckpointName,
    Objective,
    best,
    epoch_objective,
    objective_values,
)
from orchestrator.trial import PAUSED, Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Metrics of a trial at one epoch."""

    epoch: int
    metrics: Mapping[str, float]
    elapsed_s: float
    recorded: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestPoint:
    """Best value of an objective when a trial completed."""

    metric: str
    value: float
    number: int
    """The trial that completed, which need not be the best one."""
    recorded: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyChange:
    """One change of the study by a request."""

    recorded: float
    """Seconds since the epoch."""
    changed: Mapping[str, Sequence[Any]]
    """Old and new value by key; those of the config as `config.stop.trials`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """One trial according to the events so far."""

    trial: Trial
    """Without candidate, distributions and measurements, which events do not carry."""
    describe: str | None
    """The architecture in one line, if the space describes it."""
    added_event: int
    """Id of the event that added it."""
    epoch: int = 0
    """The highest epoch measured."""
    best_epoch: int | None = None
    """The epoch that gives it its values; None where that is the last one."""
    best_score: float = -math.inf
    """Score of that epoch, more being better."""

    @property
    def name(self) -> str:
        """The architecture in one line, else the trial's number."""
        return self.describe or f"trial {self.trial.number}"


class EventFold:
    """Fold of a study's events; keeps what MLflow does not show yet apart.

    Attributes:
        trials: Every trial by uid.
        state: The study's state.
        state_recorded: When it took that state, in seconds since the epoch.
        changed: uids of trials with something to show, in the order of their first change.
        fresh: Points to show, by uid.
        fresh_best: Best values to show.
        changes: Changes of the study.
    """

    def __init__(
        self, objectives: Sequence[Objective], checkpoint: CheckpointName = "last"
    ) -> None:
        self._objectives = tuple(objectives)
        self._judge = epoch_objective(objectives, checkpoint)
        self._best: dict[str, float] = {}
        self._best_of = 0
        self._space_version: str | None = None
        self.trials: dict[str, TrialView] = {}
        self.state = "running"
        self.state_recorded = 0.0
        self.changed: dict[str, None] = {}
        self.fresh: dict[str, list[Point]] = {}
        self.fresh_best: list[BestPoint] = []
        self.changes: list[StudyChange] = []

    def apply(self, events: Iterable[Event], *, shown: bool) -> None:
        """Add events.

        Args:
            events: In the ledger's order.
            shown: Whether MLflow shows them already, so that they leave nothing to show.
        """
        for event in events:
            if event.kind in {"study_created", "study_changed"}:
                self._space_version = event.payload.get("space_version", self._space_version)
            if event.kind == "study_changed":
                changed = event.payload["changed"]
                self.changes.append(StudyChange(recorded=event.recorded, changed=changed))
            if event.kind == "study_state":
                self.state, self.state_recorded = event.payload["state"], event.recorded
                continue
            view = self._view_after(event, shown=shown)
            if view is None:
                continue
            self.trials[view.trial.uid] = view
            if not shown:
                self.changed[view.trial.uid] = None

    def _view_after(self, event: Event, *, shown: bool) -> TrialView | None:
        """Return the event's trial after it; None if the event is not about a trial."""
        if event.kind == "trial_added":
            return self._added(event)
        if event.kind == "measurement":
            return self._measured(event, shown=shown)
        if event.kind not in _TRANSITIONS:
            return None
        before = self.trials[event.payload["uid"]]
        view = replace(before, trial=_TRANSITIONS[event.kind](before.trial, event))
        if event.kind == "trial_finished":
            self._update_best(view, shown=shown)
        return view

    def _added(self, event: Event) -> TrialView:
        payload = event.payload
        shapes = payload.get("shapes")
        if not shapes and (parent := self.trials.get(payload["parent"] or "")):
            shapes = parent.trial.shapes  # retries and duplicates are not screened again
        trial = Trial(
            number=payload["number"],
            uid=payload["uid"],
            kind=payload["kind"],
            parent=payload["parent"],
            params=payload["params"],
            distributions={},
            candidate={},
            digest=payload["digest"],
            space_version=payload.get("space_version", self._space_version),
            seed=payload["seed"],
            created=event.recorded,
            cost=payload.get("cost") or {},
            shapes=shapes or {},
        )
        return TrialView(trial=trial, describe=payload.get("describe"), added_event=event.id)

    def _measured(self, event: Event, *, shown: bool) -> TrialView:
        payload = event.payload
        view = self.trials[payload["uid"]]
        point = Point(
            epoch=payload["epoch"],
            metrics=payload["metrics"],
            elapsed_s=payload["elapsed_s"],
            recorded=event.recorded,
        )
        if not shown:
            self.fresh.setdefault(view.trial.uid, []).append(point)
        view = replace(view, epoch=max(view.epoch, point.epoch))
        known = objective_values(self._objectives, point.metrics, view.trial.cost)
        if self._judge is None or known is None:
            return view
        score = self._judge.score(point.metrics[self._judge.metric])
        if score <= view.best_score:
            return view
        return replace(view, best_epoch=point.epoch, best_score=score)

    def _update_best(self, view: TrialView, *, shown: bool) -> None:
        trial = view.trial
        if trial.values is None or best([trial], self._objectives) is None:
            return
        if view.epoch > self._best_of:  # results at another maximum cannot be compared
            self._best, self._best_of = {}, view.epoch
        elif 0 < view.epoch < self._best_of:
            return
        for objective, value in zip(self._objectives, trial.values, strict=True):
            previous = self._best.get(objective.metric, value)
            now = max(value, previous, key=objective.score)
            self._best[objective.metric] = now
            if not shown:
                self.fresh_best.append(
                    BestPoint(
                        metric=objective.metric,
                        value=now,
                        number=trial.number,
                        recorded=trial.created if trial.ended is None else trial.ended,
                    )
                )


def _started(trial: Trial, event: Event) -> Trial:
    first = event.recorded if trial.started is None else trial.started
    attempts = event.payload["attempt"]
    return replace(
        trial, state=TrialState.RUNNING, attempts=attempts, started=first, left_at_rung=False
    )


def _requeued(trial: Trial, event: Event) -> Trial:
    left_at_rung = event.payload.get("outcome") == PAUSED
    return replace(trial, state=TrialState.WAITING, left_at_rung=left_at_rung)


def _finished(trial: Trial, event: Event) -> Trial:
    payload = event.payload
    values = payload["values"]
    return replace(
        trial,
        state=TrialState(payload["state"]),
        reason=payload["reason"],
        values=None if values is None else tuple(values),
        violations=payload["violations"],
        failure=payload["failure"],
        ended=event.recorded,
    )


_TRANSITIONS: Mapping[str, Callable[[Trial, Event], Trial]] = {
    "attempt_started": _started,
    "trial_given_back": _requeued,
    "trial_finished": _finished,
}
"""State transition of a trial by kind of event."""
