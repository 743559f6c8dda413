"""State of a study in memory, rebuilt from the ledger's trials at each start.

Sampler, pruner, counts, the best trial and the kept checkpoints are functions of the trials. They
are updated together here, so that none is forgotten. Writes nothing to the ledger.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from orchestrator.clock import Clock
from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.plan import KIND
from orchestrator.objective import Objective, best, main_objective, reaches_target, rung_objectives
from orchestrator.pruning.pruner import Pruner
from orchestrator.sampling.auto_sampler import AutoSampler
from orchestrator.sampling.candidates import Space
from orchestrator.sampling.first_designs import NO_DESIGNS, FirstDesigns, FirstPoints
from orchestrator.sampling.halving import Halving
from orchestrator.sampling.optuna_sampler import OptunaSampler
from orchestrator.sampling.proposals import Proposal, Proposals
from orchestrator.sampling.rejection import RejectionStats
from orchestrator.sampling.sampler import Sampler
from orchestrator.sampling.screening import rescreen
from orchestrator.sampling.seed_points import first_points
from orchestrator.sampling.space_versions.added_choices import AddedChoices
from orchestrator.sampling.space_versions.earlier_trials import EarlierTrials
from orchestrator.sampling.transfer.source_model import SourceModel, first_of_each
from orchestrator.sampling.warm_start import WarmStart
from orchestrator.seeds import derive_seed
from orchestrator.snapshot import RunningTrial, Snapshot
from orchestrator.study.continuing import continuable_trials
from orchestrator.study.limits import SearchLimits
from orchestrator.study.outcome import RunningAttempt
from orchestrator.study.retention import Retention
from orchestrator.study.trial_index import TrialIndex, is_new
from orchestrator.trial import CONTINUE, Trial, TrialState, newest_continuations
from search_spaces.designs import Design
from search_spaces.task import Task
from workers.failpoints import fault
from workers.measurement import Measurement
from workers.storage import Storage


class StudyState:
    """Everything that a study derives from its trials."""

    def __init__(
        self,
        *,
        config: StudyConfig,
        space: Space,
        task: Task | None,
        trials: Iterable[Trial],
        checkpoints: Storage,
        clock: Clock,
        warm_start: WarmStart,
    ) -> None:
        trials = rescreen(trials, (*config.constraints, *space.constraints))
        self.config = config
        self.index = TrialIndex(trials)
        self.retention = Retention(checkpoints, config.objectives, config.checkpoint)
        self.best = best(self.index.trials, config.objectives)
        """The best complete trial so far."""
        self._pruner = _pruner(config)
        self._sampler_updates: list[Callable[[], None]] = []
        """Updates that the sampler receives before its next sample."""
        self._observed: dict[str, Trial] = {}
        """Open trials with measurements that the sampler receives after these updates, by uid."""
        sources = [SourceModel(study, config.objectives) for study in warm_start.sources]
        self._sampler = _sampler(config, space, task, sources)
        self._earlier = EarlierTrials(space, config.budget.maximum)
        self._outside: set[str] = set()
        """Uids of trials of earlier versions of the space that this one does not contain."""
        self._added = AddedChoices(space, self._earlier.select(trials))
        self._proposals = Proposals(
            space=space,
            sampler=self._sampler,
            seed=config.seed,
            task=task,
            constraints=config.constraints,
            first_points=_first_points(config, space, task, sources),
            clock=clock,
            warm_start=warm_start,
        )
        self._ended_at, self._may_continue = -1, tuple[Trial, ...]()
        self._restore(trials, warm_start)

    @property
    def may_sample(self) -> bool:
        """True if another trial may be sampled: within the limits, and the space not exhausted."""
        if self.target_reached:  # a reused result may do so before anything runs
            return False
        limit = self.config.stop.trials
        if limit is not None and self.index.scheduled >= limit:
            return False
        inside = (t for t in self.index.trials if t.uid not in self._outside)
        return not self._proposals.exhausted([t for t in inside if t.kind != KIND])

    @property
    def target_reached(self) -> bool:
        """True if the best trial reaches the target."""
        first, target = self.config.objectives[0], self.config.stop.target
        return self.best is not None and reaches_target(self.best, first, target)

    @property
    def rejections(self) -> RejectionStats:
        """Candidates that the constraints rejected since this driver started."""
        return self._proposals.rejections

    def prepare_proposal(self) -> Callable[[], Proposal]:
        """Return a function that samples the next candidate from the trials known now.

        Of this object's state the function uses only the sampler, so others may record events
        meanwhile; the next proposal sees them. Call one at a time. It raises UserSpaceError where
        the user's define-by-run space raises.
        """
        number, by_digest = len(self.index), dict(self.index.by_digest)
        position, update = self.index.proposed, self._sampler_update()

        def propose() -> Proposal:
            update()
            choice = self._added.next(by_digest.values())
            proposal = self._proposals.next(number, position, by_digest, choice)
            fault("proposal.drawn")
            return proposal

        return propose

    def prepare_designs(
        self, designs: Sequence[Design], marks: Mapping[str, Any]
    ) -> Callable[[], list[Trial]]:
        """Return a function that completes a user's designs to trials; see `prepare_proposal`.

        The function raises DesignError if one is not a new feasible candidate, and UserSpaceError.

        Args:
            designs: Decisions given by the user.
            marks: Entries of the trials' `sampler_attrs`.
        """
        first, known = len(self.index), dict(self.index.by_digest)
        update = self._sampler_update()

        def complete() -> list[Trial]:
            update()
            trials: list[Trial] = []
            for number, design in enumerate(designs, start=first):
                proposal = self._proposals.complete(number, design, known)
                trial = proposal.new_trial(number, seed=derive_seed(self.config.seed, number))
                trials.append(replace(trial, sampler_attrs={**trial.sampler_attrs, **marks}))
                known[trial.digest] = trials[-1]
            fault("designs.completed")
            return trials

        return complete

    def _sampler_update(self) -> Callable[[], None]:
        """Return a function that updates the sampler with all events until now."""
        updates, self._sampler_updates = self._sampler_updates, []
        observed, self._observed = self._observed, {}

        def update() -> None:
            for each in updates:
                each()
            for trial in observed.values():
                self._sampler.observe(trial)

        return update

    def discard(self, proposal: Proposal) -> None:
        """Discard a proposal that becomes no trial."""
        if proposal.suggestion is not None:
            self._sampler_updates.append(partial(self._sampler.discard, proposal.suggestion))

    def add(self, trial: Trial, proposal: Proposal) -> None:
        """Add a proposal that the ledger has recorded as a trial."""
        self._put(trial)
        if proposal.suggestion is not None:
            keep = partial(self._sampler.keep, proposal.suggestion, trial.uid, trial.number)
            self._sampler_updates.append(keep)
            if trial.state.is_terminal:
                self._sampler_updates.append(partial(self._sampler.tell, trial))
        self._update_best(trial)

    def add_requested(self, trials: Iterable[Trial]) -> None:
        """Add requested trials that the ledger has recorded, which no sampler proposed."""
        for trial in trials:
            self._put(trial)
            self._update_best(trial)
            if trial.parent in self._transferred_uids:  # the sampler knows the result
                continue
            known = self._earlier.translate(trial)
            self._sampler_updates.append(partial(self._sampler.add_open, known))
            if trial.state.is_terminal:
                self._sampler_updates.append(partial(self._sampler.tell, known))

    def add_confirmation(self, trial: Trial) -> None:
        """Add a confirmation that the ledger has recorded; sampler and pruner ignore it."""
        self.index.put(trial)

    def record_start(self, trial: Trial, attempt: int, now: float) -> None:
        """Record the start of an attempt, at a time in seconds since the epoch."""
        started = trial.started or now
        self.index.put(
            replace(
                trial,
                state=TrialState.RUNNING,
                attempts=attempt,
                started=started,
                left_at_rung=False,
            )
        )

    def record_measurement(self, uid: str, measurement: Measurement) -> None:
        """Record a measurement of a trial."""
        trial = self.index[uid].measured(measurement)
        self._put(trial)
        if trial.kind != KIND:
            self._observed[uid] = trial

    def record_outcome(self, trial: Trial) -> None:
        """Record a trial that has ended."""
        self._put(trial)
        if trial.kind != KIND:
            self._observed.pop(trial.uid, None)
            self._sampler_updates.append(partial(self._sampler.tell, trial))
        self.retention.update(trial)
        if trial.kind == CONTINUE:  # it takes the place of its parent, which may be the best one
            self.best = best(self.index.trials, self.config.objectives)
        self._update_best(trial)

    def record_pause(self, uid: str) -> None:
        """Record that a rung has paused a running trial."""
        paused = replace(self.index[uid], state=TrialState.WAITING, left_at_rung=True, failure=None)
        self.index.put(paused)

    @property
    def next_waiting(self) -> Trial | None:
        """The trial to start next: interrupted or requested, else promoted, else a new one.

        A promoted one that has ended is to be continued.
        """
        return self._else_promoted(self.index.next_waiting)

    @property
    def next_search(self) -> Trial | None:
        """The same without confirmations."""
        return self._else_promoted(self.index.next_search)

    def _else_promoted(self, waiting: Trial | None) -> Trial | None:
        if not (waiting is None or is_new(waiting)):
            return waiting
        stopped = (*self.index.paused, *self._continuable)
        if self._pruner is None:
            return next(iter(stopped), waiting)
        return (self._pruner.next_promoted(stopped) if stopped else None) or waiting

    @property
    def _continuable(self) -> Sequence[Trial]:
        """Ended trials that continue if they are promoted; none at rungs that end trials."""
        if self._ended_at != self.index.num_ended:
            budget, objectives = self.config.budget, self.config.objectives
            found = continuable_trials(self.index.trials, objectives, budget.maximum)
            if self.config.pruner.type == "stopping":
                found = [trial for trial in found if trial.state is TrialState.COMPLETE]
            self._ended_at, self._may_continue = self.index.num_ended, tuple(found)
        return self._may_continue

    @property
    def surplus(self) -> Sequence[Trial]:
        """Paused trials to end, because better ones wait at the same fidelity."""
        return () if self._pruner is None else self._pruner.surplus(self.index.paused)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Fidelities at which trials are compared now, ascending; the maximum is the last."""
        budget = self.config.budget
        return budget.rungs() if self._pruner is None else (*self._pruner.rungs, budget.maximum)

    def promotes(self, trial: Trial, fidelity: int) -> bool:
        """Return whether the pruner lets a trial train beyond a fidelity."""
        return self._pruner is None or self._pruner.promotes(trial, fidelity)

    def _restore(self, trials: Iterable[Trial], warm_start: WarmStart) -> None:
        """Restore pruner, sampler and checkpoints from the ledger's trials, with candidates."""
        for trial in self.index.trials:
            self._put(trial)
        self._sampler.rebuild(warm_start.transferred)
        self._transferred_uids = known = warm_start.transferred_uids
        own = newest_continuations(t for t in trials if t.kind != KIND and t.parent not in known)
        translated = [self._earlier.translate(trial) for trial in own]
        self._outside.update(trial.uid for trial in translated if trial.outside)
        self._sampler.rebuild(translated)
        self.retention.sweep(self.index.trials)

    def _put(self, trial: Trial) -> None:
        self.index.put(trial)
        if self._pruner is not None and trial.kind != KIND:
            self._pruner.observe(trial)

    def _update_best(self, trial: Trial) -> None:
        self.best = best([t for t in (self.best, trial) if t], self.config.objectives)


def _first_points(
    config: StudyConfig, space: Space, task: Task | None, sources: Sequence[SourceModel]
) -> FirstPoints:
    given = first_points(space, config.seed_points, config.seed, task)
    return FirstPoints(given, _first_designs(config, sources), space, task)


def _first_designs(config: StudyConfig, sources: Sequence[SourceModel]) -> FirstDesigns:
    if config.sampler.name != "auto":  # other studies keep the first points that they had
        return NO_DESIGNS
    preferred = first_of_each(source.designs for source in sources)
    return FirstDesigns.for_limit(config.stop.trials, config.constraints, preferred)


def _sampler(
    config: StudyConfig, space: Space, task: Task | None, sources: Sequence[SourceModel]
) -> Sampler[Any]:
    if config.sampler.name != "auto":
        return OptunaSampler(
            sampler=config.sampler.name,
            objectives=config.objectives,
            seed=config.seed,
            expected=space.expected(),
        )
    return AutoSampler(
        space=space,
        objectives=config.objectives,
        constraints=config.constraints,
        budget=config.budget,
        seed=config.seed,
        task=task,
        predict_from_clock=config.engine.name != "in_process",
        sources=sources,
    )


def _pruner(config: StudyConfig) -> Pruner | None:
    if config.pruner.name == "none":
        return None
    return Halving(config.budget, rung_objectives(config.objectives), seed=config.seed)


def take_snapshot(
    state: StudyState,
    running: Mapping[str, RunningAttempt],
    limits: SearchLimits,
) -> Snapshot:
    """Return a snapshot of a study for display.

    Args:
        state: State of the study.
        running: Running attempts by trial uid.
        limits: Clock, elapsed time and stop reason.
    """
    index, best, config = state.index, state.best, state.config
    judge, now = main_objective(config.objectives), limits.clock.monotonic()
    shown = [
        _running_trial(index[uid], judge, state.rungs, now - attempt.started)
        for uid, attempt in running.items()
    ]
    return Snapshot(
        counts=dict(index.counts),
        confirmations=index.confirmations,
        infeasible=index.infeasible,
        counted=index.counted,
        trials=config.stop.trials,
        hours=config.stop.hours,
        spent_s=limits.spent_s,
        running=tuple(sorted(shown, key=lambda r: r.number)),
        judged_metric=judge.metric,
        best_number=best.number if best else None,
        best_values=best.values if best else None,
        best_describe=best.describe if best else None,
        epochs=index.epochs,
        stop_reason=limits.stop_reason,
        rejected=state.rejections.in_a_row,
        rejected_s=state.rejections.seconds,
    )


def _running_trial(
    trial: Trial, objective: Objective, rungs: Sequence[int], elapsed_s: float
) -> RunningTrial:
    metrics = trial.measurements[-1].metrics if trial.measurements else {}
    return RunningTrial(
        number=trial.number,
        describe=trial.describe,
        epoch=trial.reached,
        rung=next((rung for rung in rungs if rung > trial.reached), rungs[-1]),
        metric=metrics.get(objective.metric),
        elapsed_s=elapsed_s,
    )
