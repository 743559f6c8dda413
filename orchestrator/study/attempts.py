"""Running attempts: start them, judge their measurements, record their outcomes.

Everything is recorded in the ledger before anything follows from it. Not thread-safe: the study's
lock guards it.
"""

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.confirmation.plan import KIND
from orchestrator.ledger import Effect, Lease, Ledger, StaleAttemptError
from orchestrator.objective import main_objective
from orchestrator.snapshot import Verdict
from orchestrator.study.jobs import JobFactory
from orchestrator.study.limits import SearchLimits, abort_reason
from orchestrator.study.lost_trials import settle_losses
from orchestrator.study.outcome import (
    RunningAttempt,
    TrialOutcome,
    decide_outcome,
    divergence,
    missing_objectives,
    split_finite,
)
from orchestrator.study.retry_policy import resource_shares
from orchestrator.study.state import StudyState
from orchestrator.trial import CONTINUE, PAUSED, Trial, TrialState
from workers.failures import Failure, FailureKind
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement


class Attempts:
    """The running attempts of one study."""

    def __init__(
        self,
        ledger: Ledger,
        lease: Lease,
        state: StudyState,
        jobs: JobFactory,
        limits: SearchLimits,
    ) -> None:
        """Start with none.

        Args:
            ledger: Ledger that attempts are recorded in.
            lease: Lease on the study.
            state: State of the study, updated with every event.
            jobs: Factory of the attempts' jobs.
            limits: Limits that pause attempts; attempts may abort or block the search.
        """
        self.running: dict[str, RunningAttempt] = {}
        """Attempts by the trial's uid."""
        self.peak = 1
        """Largest number of attempts that ran at the same time."""
        self._ledger = ledger
        self._lease = lease
        self._state = state
        self._jobs = jobs
        self._limits = limits
        self._clock = limits.clock
        self._budget = state.config.budget
        self._objectives = state.config.objectives
        self._may_pause = state.config.pruner.type == "promotion"
        self._ended: list[Trial] = []

    def take_over(self, before: "Attempts", *, outdated: bool) -> None:
        """Continue the running attempts of trials that have not ended since.

        Args:
            before: The attempts that these replace.
            outdated: The budget has changed: running attempts are paused at their next report.
        """
        self.peak = before.peak
        for uid, attempt in before.running.items():
            if self._state.index[uid].state is TrialState.RUNNING:
                attempt.outdated |= outdated
                self.running[uid] = attempt

    def add_continuation(self, ended: Trial) -> None:
        """Record the continuation of an ended trial; the state is to be rebuilt then."""
        parent = self._ledger.trial(self._lease.study_id, ended.number)  # with its candidate
        number = len(self._state.index)
        child = parent.successor(CONTINUE, number=number, seed=parent.seed)
        self._ledger.add_trial(self._lease, child)

    def settle_losses(self, study: str) -> None:
        """Fail waiting trials that were lost too often; other lost trials start last.

        Args:
            study: Name of the study, for messages.
        """
        waiting = self._state.index.waiting
        for trial, losses in settle_losses(self._ledger, self._lease, study, waiting):
            if trial.state.is_terminal:
                self._state.record_outcome(trial)
            else:
                self._state.index.postpone(trial.uid, losses)

    def follow(self, effect: Effect) -> None:
        """Take over the trials that a request has added and ended, as recorded."""
        self._state.add_requested(effect.added)
        for uid in effect.ended:
            attempt, trial = self.running.pop(uid, None), self._state.index[uid]
            if attempt is not None:
                self._jobs.log_end(trial, attempt.key, "stopped by its user", None)
            ended = self._ledger.trial(self._lease.study_id, trial.number)
            self._state.record_outcome(ended)

    def is_running(self, key: AttemptKey) -> bool:
        """Return whether an attempt runs; safe without the study's lock."""
        return self._find(key) is not None

    def start(self, trial: Trial, node: str, pid: int) -> TrainingJob | None:
        """Start an attempt; return None if the trial already has its last measurement."""
        key = self._ledger.start_attempt(self._lease, trial.uid, node=node, pid=pid)
        attempt = RunningAttempt(key=key, started=self._clock.monotonic())
        self.running[trial.uid] = attempt
        self.peak = max(self.peak, len(self.running))
        self._state.record_start(trial, key.number, self._clock.now())
        if trial.measurements:
            self._judge(attempt, trial.measurements[-1])
            if attempt.is_decided or trial.reached >= self._budget.maximum:
                self.tell(key, None)
                return None
        shares = resource_shares(self._past_outcomes(trial), self._state.index.find(trial.parent))
        lineage = self._state.index.lineage(trial)
        checkpoints = [ref for each in lineage for ref in self._ledger.checkpoints(each.uid)]
        return self._jobs.make(trial, key, checkpoints, shares, [each.uid for each in lineage[1:]])

    def report(self, key: AttemptKey, measurement: Measurement) -> Verdict:
        """Record a measurement and decide whether its attempt continues."""
        attempt = self._find(key)
        if attempt is not None and not attempt.is_decided:
            watched = (main_objective(self._objectives), *self._objectives)
            attempt.failure = divergence(measurement, watched)
        if attempt is None or attempt.is_decided:
            return Verdict.STOP
        measurement, not_finite = split_finite(measurement)
        trial = self._state.index[key.trial_uid]
        self._jobs.log_dropped_metrics(trial, measurement.fidelity, not_finite)
        try:
            is_new = self._ledger.record(self._lease, key, measurement)
        except StaleAttemptError:
            del self.running[key.trial_uid]
            return Verdict.STOP
        if is_new:  # a repeated epoch was judged when it was first measured
            self._state.record_measurement(key.trial_uid, measurement)
            return self._judge(attempt, measurement)
        return self._continue_or_pause(attempt, trial)

    def tell(self, key: AttemptKey, failure: Failure | None) -> None:
        """Record the end of an attempt, and the outcome of its trial, unless it is paused."""
        attempt = self._find(key)
        if attempt is None:
            return
        if attempt.paused:
            self._pause(attempt)
            return
        trial = self._state.index[key.trial_uid]
        ended_early = failure is None and trial.reached < self._budget.maximum
        if attempt.outdated and ended_early and not attempt.is_decided:
            self._requeue(attempt, "interrupted", None)
            return
        outcome = decide_outcome(
            trial,
            attempt,
            failure,
            budget=self._budget,
            objectives=self._objectives,
            checkpoint=self._state.config.checkpoint,
            past_outcomes=self._past_outcomes(trial),
        )
        if isinstance(outcome, TrialOutcome):
            self._finish(trial, attempt, outcome)
        else:
            self._requeue(attempt, str(outcome.kind), outcome)
            if outcome.kind is FailureKind.NO_SPACE:
                self._limits.block(outcome.message)

    def requeue(self, key: AttemptKey, outcome: str) -> None:
        """Record that an attempt was dropped; a trial that is decided is finished or paused."""
        attempt = self._find(key)
        if attempt is None:
            return
        reached = self._state.index[key.trial_uid].reached
        if attempt.is_decided or reached >= self._budget.maximum:
            self.tell(key, None)
        else:
            self._requeue(attempt, outcome, None)

    def _find(self, key: AttemptKey) -> RunningAttempt | None:
        attempt = self.running.get(key.trial_uid)
        return attempt if attempt is not None and attempt.key == key else None

    def _past_outcomes(self, trial: Trial) -> list[str]:
        return [attempt.outcome or "" for attempt in self._ledger.attempts(trial.uid)]

    def _continue_or_pause(self, attempt: RunningAttempt, trial: Trial) -> Verdict:
        limits = self._limits
        end = limits.stop_reason if trial.kind == KIND else limits.search_end
        return Verdict.CONTINUE if end is None and not attempt.outdated else Verdict.PAUSE

    def _judge(self, attempt: RunningAttempt, measurement: Measurement) -> Verdict:
        trial = self._state.index[attempt.key.trial_uid]
        if measurement.fidelity >= self._budget.maximum:
            return Verdict.STOP if attempt.outdated else Verdict.CONTINUE
        if measurement.fidelity in self._state.rungs:
            attempt.failure = missing_objectives(
                trial.cost, measurement, self._objectives, self._budget
            )
            if attempt.failure is None and not self._state.promotes(trial, measurement.fidelity):
                attempt.paused = self._may_pause
                attempt.pruned = not attempt.paused
        if attempt.paused:
            return Verdict.PAUSE
        return Verdict.STOP if attempt.is_decided else self._continue_or_pause(attempt, trial)

    def end_paused(self, trials: Iterable[Trial]) -> None:
        """End paused trials as pruned by their rung."""
        for trial in trials:
            ended = self._ledger.finish(
                self._lease,
                trial.uid,
                key=None,
                state=TrialState.PRUNED,
                reason="rung",
                violations=trial.violations,
            )
            self._state.record_outcome(ended)

    def _pause(self, attempt: RunningAttempt) -> None:
        trial = self._state.index[attempt.key.trial_uid]
        self._ledger.requeue(self._lease, attempt.key, PAUSED)
        end = f"paused at {self._budget.unit} {trial.reached}; it continues if promoted later"
        self._jobs.log_end(trial, attempt.key, end, None)
        del self.running[trial.uid]
        self._state.record_pause(trial.uid)

    def _finish(self, trial: Trial, attempt: RunningAttempt, outcome: TrialOutcome) -> None:
        self._jobs.log_end(trial, attempt.key, outcome.summary, outcome.failure)
        ended = self._ledger.finish(
            self._lease,
            trial.uid,
            key=attempt.key,
            state=outcome.state,
            reason=outcome.reason,
            values=outcome.values,
            violations=trial.violations,
            failure=outcome.failure.to_dict() if outcome.failure else None,
        )
        del self.running[trial.uid]
        self._state.record_outcome(ended)
        if trial.kind == KIND:  # a failed confirmation drops its candidate instead
            return
        self._ended.append(self._state.index[ended.uid])
        if reason := abort_reason(self._ended):
            self._limits.abort(reason)
        elif self._state.target_reached:
            self._limits.end_search("target")

    def _requeue(self, attempt: RunningAttempt, outcome: str, failure: Failure | None) -> None:
        record = failure.to_dict() if failure else None
        self._ledger.requeue(self._lease, attempt.key, outcome, failure=record)
        trial = self._state.index[attempt.key.trial_uid]
        end = f"{outcome}; the trial waits for another attempt"
        self._jobs.log_end(trial, attempt.key, end, failure)
        del self.running[trial.uid]
        self._state.index.put(replace(trial, state=TrialState.WAITING, failure=record))
