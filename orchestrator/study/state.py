"""Memory: all that follows from a study's trials, rebuilt at each start and kept in step.

Sampler, rungs, counts, the best and whose checkpoints stay are functions of the ledger's trials;
here they are told together, so that none is forgotten. Writes nothing to the ledger.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from orchestrator.clock import Clock, SystemClock
from orchestrator.config.schema import StudyConfig
from orchestrator.objective import Objective, best, reaches_target
from orchestrator.sampling.halving import Halving, rung_objectives
from orchestrator.sampling.optuna_sampler import OptunaSampler
from orchestrator.sampling.proposals import Proposal, Proposals, Space, first_points
from orchestrator.sampling.rejection import RejectionStats
from orchestrator.sampling.warm_start import NO_WARM_START, WarmStart
from orchestrator.snapshot import RunningTrial, Snapshot
from orchestrator.study.limits import SearchLimits
from orchestrator.study.outcome import RunningAttempt
from orchestrator.study.retention import Retention
from orchestrator.study.trial_index import TrialIndex
from orchestrator.trial import Trial, TrialState
from search_spaces.task import Task
from workers.budget import Budget
from workers.failpoints import fault
from workers.measurement import Measurement
from workers.storage import Storage


class StudyState:
    """One study's past as its decisions need it."""

    def __init__(
        self,
        *,
        config: StudyConfig,
        objectives: Sequence[Objective],
        space: Space,
        task: Task | None,
        trials: Iterable[Trial],
        checkpoints: Storage,
        clock: Clock | None = None,
        earlier: WarmStart = NO_WARM_START,
    ) -> None:
        trials = tuple(trials)
        self.history = TrialIndex(trials)
        self.retention = Retention(checkpoints, objectives)
        self.best = best(self.history.trials, objectives)
        """The best complete trial so far."""
        self._objectives = tuple(objectives)
        self._most = config.stop.trials
        self._target = config.stop.target
        self._halving = (
            Halving(config.budget, rung_objectives(objectives))
            if config.pruner.name == "halving"
            else None
        )
        self._lessons: list[Callable[[], None]] = []
        """What the sampler is to be told before it draws again."""
        self._proposer = OptunaSampler(
            sampler=config.sampler.name,
            objectives=objectives,
            seed=config.seed,
            expected=space.expected(),
        )
        self._proposals = Proposals(
            space=space,
            proposer=self._proposer,
            task=task,
            constraints=config.constraints,
            given=first_points(space, config.seed_points, config.seed, task),
            clock=clock or SystemClock(),
            earlier=earlier,
        )
        self._recall(trials, earlier)

    @property
    def has_room(self) -> bool:
        """Whether another trial may be drawn: no limit or target is reached, nor all tried."""
        if self.reaches_target:  # an earlier study's answer may do so before anything runs
            return False
        if self._most is not None and self.history.promised >= self._most:
            return False
        return not self._proposals.exhausted(self.history.trials)

    @property
    def reaches_target(self) -> bool:
        """Whether the best trial is good enough."""
        return self.best is not None and reaches_target(
            self.best, self._objectives[0], self._target
        )

    @property
    def impossible(self) -> str | None:
        """Says so if no candidate has met the constraints for long."""
        return self.rejections.abort_reason

    @property
    def rejections(self) -> RejectionStats:
        """What the constraints refused since this driver started."""
        return self._proposals.rejections

    def prepare_draw(self) -> Callable[[], Proposal]:
        """Return the function that draws the next candidate from the history as it is now.

        The function needs none of this object's state but the sampler, which it alone uses: others
        may go on telling what happens, and the next draw sees it. One draw at a time. It raises
        SpaceError where the user's define-by-run space raises.
        """
        number, known = len(self.history), dict(self.history.known)
        lessons, self._lessons = self._lessons, []

        def draw() -> Proposal:
            for lesson in lessons:
                lesson()
            proposal = self._proposals.next(number, known)
            fault("proposal.drawn")
            return proposal

        return draw

    def discard(self, proposal: Proposal) -> None:
        """Forget a proposal that becomes no trial."""
        if proposal.draw is not None:
            self._lessons.append(partial(self._proposer.drop, proposal.draw))

    def added(self, trial: Trial, proposal: Proposal) -> None:
        """The proposal has become a trial of the ledger."""
        self.history.put(trial)
        if proposal.draw is not None:
            keep = partial(self._proposer.keep, proposal.draw, trial.uid, trial.number)
            self._lessons.append(keep)
            if trial.state.is_terminal:
                self._lessons.append(partial(self._proposer.conclude, trial))
        self.best = best([t for t in (self.best, trial) if t], self._objectives)

    def reopened(self, trials: Iterable[Trial]) -> None:
        """Trials that go back to others, and so were not drawn, have been added."""
        for trial in trials:
            self.history.put(trial)
            self._lessons.append(partial(self._proposer.reopen, trial))

    def started(self, trial: Trial, attempt: int, now: float) -> None:
        """An attempt at a trial was recorded."""
        started = trial.started or now
        self.history.put(
            replace(trial, state=TrialState.RUNNING, attempts=attempt, started=started)
        )

    def measured(self, uid: str, seen: Measurement) -> None:
        """A measurement was recorded."""
        trial = self.history[uid]
        trial = replace(trial, measurements=(*trial.measurements, seen))
        self.history.put(trial)
        self._observe(trial)

    def goes_on(self, trial: Trial, fidelity: int) -> bool:
        """Whether a trial is trained beyond a fidelity."""
        return self._halving is None or self._halving.goes_on(trial, fidelity)

    def ended(self, trial: Trial) -> None:
        """A trial's end was recorded."""
        self.history.put(trial)
        self._lessons.append(partial(self._proposer.conclude, trial))
        self.retention.ended(trial)
        self.best = best([t for t in (self.best, trial) if t], self._objectives)

    def _recall(self, trials: Iterable[Trial], earlier: WarmStart) -> None:
        """Learn from trials as the ledger has them, whole, and from earlier studies."""
        for trial in self.history.trials:
            self._observe(trial)
        self._proposer.rebuild(earlier.history)
        self._proposer.rebuild(t for t in trials if t.parent not in earlier.transferred_uids)
        self.retention.sweep(self.history.trials)

    def _observe(self, trial: Trial) -> None:
        if self._halving is not None:
            self._halving.observe(trial)


def standing(
    memory: StudyState,
    running: Mapping[str, RunningAttempt],
    course: SearchLimits,
    config: StudyConfig,
    *,
    judge: Objective,
    now: float,
) -> Snapshot:
    """How the study stands.

    Args:
        memory: What became of its trials.
        running: Attempts under way, by trial.
        course: How long it has run, and why it stops.
        config: What its user asked for.
        judge: What rungs judge.
        now: The study's monotonic clock.
    """
    history, best, budget = memory.history, memory.best, config.budget
    shown = [
        _show(history[uid], judge, budget, now - attempt.started)
        for uid, attempt in running.items()
    ]
    return Snapshot(
        counts=dict(history.counts),
        infeasible=history.infeasible,
        counted=history.counted,
        trials=config.stop.trials,
        hours=config.stop.hours,
        spent_s=course.spent_s,
        running=tuple(sorted(shown, key=lambda r: r.number)),
        judged_metric=judge.metric,
        best_number=best.number if best else None,
        best_values=best.values if best else None,
        best_describe=best.describe if best else None,
        epochs=history.epochs,
        stop_reason=course.reason,
        refused=memory.rejections.in_a_row,
        refused_s=memory.rejections.seconds,
    )


def _show(trial: Trial, judge: Objective, budget: Budget, elapsed_s: float) -> RunningTrial:
    return RunningTrial(
        number=trial.number,
        describe=trial.describe,
        epoch=trial.reached,
        rung=next((r for r in budget.rungs() if r > trial.reached), budget.maximum),
        metric=trial.measurements[-1].metrics.get(judge.metric) if trial.measurements else None,
        elapsed_s=elapsed_s,
    )
