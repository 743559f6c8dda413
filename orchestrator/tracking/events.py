"""A study as its events tell it: which trials there are, how each stands, what is best so far.

Knows no MLflow and no database. Everything is a function of the events in their order, so a
projection that starts again folds the same past into the same picture.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.ledger import Event
from orchestrator.objective import Objective, best
from orchestrator.trial import Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was seen of a trial at one epoch, and when."""

    epoch: int
    metrics: Mapping[str, float]
    elapsed_s: float
    recorded: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestPoint:
    """The best value there was once a trial had completed."""

    metric: str
    value: float
    number: int
    """The trial that had just completed, which need not be the best one."""
    recorded: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """One trial as the events so far tell it."""

    trial: Trial
    """Without candidate, distributions and measurements, which events do not carry."""
    describe: str | None
    """The architecture in one line, where the space says it."""
    added_event: int
    """Id of the event that added it."""
    epoch: int = 0
    """The highest epoch measured."""

    @property
    def name(self) -> str:
        """What people read: the architecture, or else the number."""
        return self.describe or f"trial {self.trial.number}"


class EventFold:
    """The fold of a study's events, with what is not shown yet kept apart.

    Attributes:
        trials: Every trial by uid.
        state: The study's state.
        state_recorded: When it took that state, in seconds since the epoch.
        changed: uids of trials with something to show, in the order of their first change.
        fresh: Points to show, by uid.
        fresh_best: Best values to show.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self._best: dict[str, float] = {}
        self.trials: dict[str, TrialView] = {}
        self.state = "running"
        self.state_recorded = 0.0
        self.changed: dict[str, None] = {}
        self.fresh: dict[str, list[Point]] = {}
        self.fresh_best: list[BestPoint] = []

    def apply(self, events: Iterable[Event], *, shown: bool) -> None:
        """Fold events in.

        Args:
            events: In order.
            shown: Whether they are shown already and leave nothing to show.
        """
        for event in events:
            if event.kind == "study_state":
                self.state, self.state_recorded = event.payload["state"], event.recorded
                continue
            story = self._told(event, shown=shown)
            if story is None:
                continue
            self.trials[story.trial.uid] = story
            if not shown:
                self.changed[story.trial.uid] = None

    def _told(self, event: Event, *, shown: bool) -> TrialView | None:
        """The trial after the event; None if the event is not about one."""
        if event.kind == "trial_added":
            return _added(event)
        if event.kind == "measurement":
            return self._measured(event, shown=shown)
        if event.kind not in _MOVES:
            return None
        before = self.trials[event.payload["uid"]]
        story = replace(before, trial=_MOVES[event.kind](before.trial, event))
        if event.kind == "trial_finished":
            self._rank(story, shown=shown)
        return story

    def _measured(self, event: Event, *, shown: bool) -> TrialView:
        told = event.payload
        story = self.trials[told["uid"]]
        point = Point(
            epoch=told["epoch"],
            metrics=told["metrics"],
            elapsed_s=told["elapsed_s"],
            recorded=event.recorded,
        )
        if not shown:
            self.fresh.setdefault(story.trial.uid, []).append(point)
        return replace(story, epoch=max(story.epoch, point.epoch))

    def _rank(self, story: TrialView, *, shown: bool) -> None:
        trial = story.trial
        if trial.values is None or best([trial], self._objectives) is None:
            return
        for objective, value in zip(self._objectives, trial.values, strict=True):
            ahead = self._best.get(objective.metric, value)
            now = max(value, ahead, key=objective.score)
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


def _added(event: Event) -> TrialView:
    told = event.payload
    trial = Trial(
        number=told["number"],
        uid=told["uid"],
        kind=told["kind"],
        parent=told["parent"],
        params=told["params"],
        distributions={},
        candidate={},
        digest=told["digest"],
        seed=told["seed"],
        created=event.recorded,
        cost=told.get("cost") or {},
    )
    return TrialView(
        trial=trial,
        describe=told.get("describe"),
        added_event=event.id,
    )


def _started(trial: Trial, event: Event) -> Trial:
    first = event.recorded if trial.started is None else trial.started
    attempts = event.payload["attempt"]
    return replace(trial, state=TrialState.RUNNING, attempts=attempts, started=first)


def _given_back(trial: Trial, event: Event) -> Trial:
    del event  # Whatever made it wait, it waits.
    return replace(trial, state=TrialState.WAITING)


def _finished(trial: Trial, event: Event) -> Trial:
    told = event.payload
    values = told["values"]
    return replace(
        trial,
        state=TrialState(told["state"]),
        reason=told["reason"],
        values=None if values is None else tuple(values),
        violations=told["violations"],
        failure=told["failure"],
        ended=event.recorded,
    )


_MOVES: Mapping[str, Callable[[Trial, Event], Trial]] = {
    "attempt_started": _started,
    "trial_given_back": _given_back,
    "trial_finished": _finished,
}
"""What an event of each kind does to the trial that it names."""
