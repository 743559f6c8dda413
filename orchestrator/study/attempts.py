"""Attempts under way: how one starts, is judged by what it measures, and ends.

Everything is recorded in the ledger before anything follows from it. Knows neither how candidates
are drawn nor who holds the lease. Not safe for several threads: the study's lock guards it.
"""

from dataclasses import replace

from orchestrator.clock import Clock
from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Lease, Ledger, StaleAttemptError
from orchestrator.sampling.halving import main_objective
from orchestrator.snapshot import Verdict
from orchestrator.study.jobs import Jobs
from orchestrator.study.limits import SearchLimits
from orchestrator.study.outcome import (
    RunningAttempt,
    TrialOutcome,
    abort_reason,
    decide_outcome,
    finite_part,
    missing_objectives,
    not_finite,
    shares,
)
from orchestrator.study.state import StudyState
from orchestrator.trial import Trial, TrialState
from workers.failures import Failure, FailureKind
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement


class Attempts:
    """The attempts of one study that its driver has started and that have not ended."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        lease: Lease,
        config: StudyConfig,
        memory: StudyState,
        jobs: Jobs,
        course: SearchLimits,
        clock: Clock,
    ) -> None:
        """Start none.

        Args:
            ledger: Where they are recorded.
            lease: The right to record them.
            config: The study's.
            memory: Told what becomes of their trials.
            jobs: Makes the job of each.
            course: Stopped by what they show; stops them.
            clock: Tells the time.
        """
        self.running: dict[str, RunningAttempt] = {}
        """By the trial's uid."""
        self._ledger = ledger
        self._lease = lease
        self._objectives = config.objectives
        self._judge = main_objective(self._objectives)
        self._budget = config.budget
        self._memory = memory
        self._history = memory.history
        self._jobs = jobs
        self._course = course
        self._clock = clock
        self._ended: list[Trial] = []

    def start(self, trial: Trial, node: str, pid: int) -> TrainingJob | None:
        """Start an attempt; None if the trial needs none, for its driver died as it ended."""
        key = self._ledger.start_attempt(self._lease, trial.uid, node=node, pid=pid)
        attempt = RunningAttempt(key=key, started=self._clock.monotonic())
        self.running[trial.uid] = attempt
        self._memory.started(trial, key.number, self._clock.now())
        if trial.measurements:
            verdict = self._judged(attempt, trial.measurements[-1])
            if verdict is Verdict.STOP or trial.reached >= self._budget.maximum:
                self.tell(key, None)
                return None
        parent = self._history.find(trial.parent)
        return self._jobs.make(
            trial, key, self._ledger.checkpoints(trial.uid), shares(self._earlier(trial), parent)
        )

    def report(self, key: AttemptKey, seen: Measurement) -> Verdict:
        """Record a measurement and judge it."""
        attempt = self._find(key)
        if attempt is not None and not attempt.is_over:
            attempt.failure = not_finite(seen, (self._judge, *self._objectives))
        if attempt is None or attempt.is_over:
            return Verdict.STOP
        seen, left_out = finite_part(seen)
        self._jobs.left_out(self._history[key.trial_uid], seen.fidelity, left_out)
        try:
            fresh = self._ledger.record(self._lease, key, seen)
        except StaleAttemptError:
            del self.running[key.trial_uid]
            return Verdict.STOP
        if fresh:  # an epoch measured again was judged when it was first seen
            self._memory.measured(key.trial_uid, seen)
            return self._judged(attempt, seen)
        return self._verdict

    def tell(self, key: AttemptKey, failure: Failure | None) -> None:
        """Record that an attempt has ended, and what that makes of its trial."""
        attempt = self._find(key)
        if attempt is None:
            return
        trial = self._history[key.trial_uid]
        ending = decide_outcome(
            trial,
            attempt,
            failure,
            budget=self._budget,
            objectives=self._objectives,
            earlier=self._earlier(trial),
        )
        if isinstance(ending, TrialOutcome):
            self._end(trial, attempt, ending)
        else:
            self._return(attempt, str(ending.kind), ending)
            if ending.kind is FailureKind.NO_SPACE:
                self._course.block(ending.message)

    def requeue(self, key: AttemptKey, outcome: str) -> None:
        """Record that an attempt was dropped; one that has reached its end is told instead."""
        attempt = self._find(key)
        if attempt is None:
            return
        if attempt.is_over or self._history[key.trial_uid].reached >= self._budget.maximum:
            self.tell(key, None)
        else:
            self._return(attempt, outcome, None)

    def _find(self, key: AttemptKey) -> RunningAttempt | None:
        attempt = self.running.get(key.trial_uid)
        return attempt if attempt is not None and attempt.key == key else None

    def _earlier(self, trial: Trial) -> list[str]:
        """How attempts at it have ended so far."""
        return [attempt.outcome or "" for attempt in self._ledger.attempts(trial.uid)]

    @property
    def _verdict(self) -> Verdict:
        """What an attempt does that nothing speaks against."""
        return Verdict.CONTINUE if self._course.reason is None else Verdict.PAUSE

    def _judged(self, attempt: RunningAttempt, seen: Measurement) -> Verdict:
        trial = self._history[attempt.key.trial_uid]
        if seen.fidelity >= self._budget.maximum:
            return Verdict.CONTINUE
        if seen.fidelity in self._budget.rungs():
            attempt.failure = missing_objectives(trial.cost, seen, self._objectives, self._budget)
            attempt.stopped = not self._memory.goes_on(trial, seen.fidelity)
        return Verdict.STOP if attempt.is_over else self._verdict

    def _end(self, trial: Trial, attempt: RunningAttempt, ending: TrialOutcome) -> None:
        self._jobs.ended(trial, attempt.key, ending.words, ending.failure)
        ended = self._ledger.finish(
            self._lease,
            trial.uid,
            key=attempt.key,
            state=ending.state,
            reason=ending.reason,
            values=ending.values,
            violations=trial.violations,
            failure=ending.failure.to_dict() if ending.failure else None,
        )
        del self.running[trial.uid]
        self._memory.ended(ended)
        self._ended.append(self._history[ended.uid])
        if reason := abort_reason(self._ended):
            self._course.abort(reason)
        elif self._memory.reaches_target:
            self._course.stop("target")

    def _return(self, attempt: RunningAttempt, outcome: str, failure: Failure | None) -> None:
        record = failure.to_dict() if failure else None
        self._ledger.requeue(self._lease, attempt.key, outcome, failure=record)
        trial = self._history[attempt.key.trial_uid]
        self._jobs.ended(trial, attempt.key, f"{outcome}; the trial waits for another", failure)
        del self.running[trial.uid]
        self._history.put(replace(trial, state=TrialState.WAITING, failure=record))
