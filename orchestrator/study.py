"""The study: what is asked, reported and told, recorded before anything else happens.

    with Study(record=row, config=config, ledger=ledger, ...) as study:
        while job := study.ask():
            for seen in start(job, dataset):
                if isinstance(seen, Measurement) and study.report(job.key, seen) != "continue":
                    break
            study.tell(job.key)

Rebuilt from the ledger, it holds no truth of its own. Knows no engine, network or display.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from orchestrator.clock import Clock, SystemClock
from orchestrator.config import StudyConfig
from orchestrator.course import Course
<<<<<<< HEAD
from orchestrator.endings import Attempt, Ending, ending_of, finite_part, lacking, not_finite
from orchestrator.failing import all_failed, breaks_off, shares
=======
from orchestrator.endings import Attempt, Ending, ending_of, lacking, not_finite
from orchestrator.failing import (
    MAX_LOSSES,
    all_failed,
    breaks_off,
    losses,
    lost_too_often,
    shares,
)
>>>>>>> 45525f0 (Fail a trial whose driver died three times in a row without a new epoch)
from orchestrator.heartbeat import Heartbeat
from orchestrator.jobs import Jobs
from orchestrator.ledger import Lease, LeaseLost, Ledger, LedgerError, StaleAttempt, StudyRow
from orchestrator.memory import Memory
from orchestrator.proposals import Space, SpaceError
from orchestrator.requests import answer
from orchestrator.sampling import derive_seed
from orchestrator.snapshot import Snapshot, Verdict
from orchestrator.standing import standing
from orchestrator.stopping import judge_of
from orchestrator.trial import Trial, TrialState
from orchestrator.warm_start import Basis, earlier
from search_spaces.task import Task
from workers.failures import Failure, FailureKind
from workers.folders import Folder
from workers.job import AttemptKey, TeacherRef, TrainingJob
from workers.measurement import Measurement

_BEAT_S = 10.0  # a third of the lease's time: two beats may fail before it is lost


class Study:
    """One search, between the ledger and an engine; safe to use from several threads.

    Errors of a trial are told, never raised; what raises is the ledger's, such as a full disk.
    """

    def __init__(
        self,
        *,
        record: StudyRow,
        config: StudyConfig,
        ledger: Ledger,
        lease: Lease,
        space: Space,
        task: Task | None,
        checkpoints_dir: Folder,
        logs_dir: Path | None = None,
        teacher: TeacherRef | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Rebuilds the study from the ledger.

        Args:
            record: The study's row.
            config: What its user asked for; `resources.gpu` is decided (None counts as 0).
            ledger: Where everything is recorded.
            lease: The right to record it.
            space: Where candidates come from.
            task: What networks are built for; None where nothing is built (no costs are counted).
            checkpoints_dir: Checkpoints go to `checkpoints_dir/STUDY/TRIAL_UID`.
            logs_dir: Logs go to `logs_dir/STUDY/NUMBER.log`; None keeps none.
            teacher: Whom candidates may learn from, if anybody.
            clock: Tells the time; this machine's by default.

        Raises:
            SeedPointError: A seed point does not fit the space.
            WarmStartError: An earlier study is gone, or its results do not hold here.
        """
        self.name = record.name
        self.config = config
        self.objectives = config.to_objectives()
        self.judge = judge_of(self.objectives)
        self._ledger = ledger
        self._lease = lease
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._budget = config.to_budget()
        checkpoints, logs = checkpoints_dir / record.name, logs_dir and logs_dir / record.name
        self._jobs = Jobs(config, checkpoints=checkpoints, logs=logs, teacher=teacher)
        self._memory = Memory(
            config=config,
            objectives=self.objectives,
            space=space,
            task=task,
            trials=ledger.trials(record.id),
            checkpoints=checkpoints,
            earlier=earlier(ledger, config, Basis.of(record)),
        )
        self._history = self._memory.history
        self._running: dict[str, Attempt] = {}
        self._ended: list[Trial] = []
        self._blocked = False
        self._lost: LeaseLost | None = None
        self._course = Course(self._clock, spent_s=record.spent_s, hours=config.stop.hours)
        if self._memory.reaches_target:
            self._course.stop("target")
        self._heartbeat = Heartbeat(self._attend, every_s=_BEAT_S, forgives=LedgerError)

    def __enter__(self) -> Self:
        self._settle_losses()
        self._take_up()
        self._heartbeat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back what still runs and accounts for the time; the lease stays the caller's."""
        self._heartbeat.stop()
        for attempt in tuple(self._running.values()):
            self.give_back(attempt.key)
        self.beat()

    # What an engine calls

    def ask(self, *, node: str | None = None, pid: int | None = None) -> TrainingJob | None:
        """The next attempt to run, already recorded as running.

        Unfinished trials come first, then new ones.

        Args:
            node: Where it will run, for people; this host by default.
            pid: The process that will run it, for people; this one by default.

        Returns:
            None if there is nothing to start now; unless `finished`, ask again after a tell.
        """
        with self._guarded():
            while not self.stopping:
                trial = self._history.waiting or self._propose()
                if trial is None:
                    return None
                job = self._start(trial, node or socket.gethostname(), pid or os.getpid())
                if job is not None:
                    return job
        return None

    def report(self, key: AttemptKey, seen: Measurement) -> Verdict:
        """Records a measurement and judges it.

        Returns:
            STOP also for an attempt that is no longer the trial's newest: its worker should exit.
        """
        with self._guarded():
            attempt = self._attempt(key)
            if attempt is not None and not attempt.is_over:
                attempt.failure = not_finite(seen, (self.judge, *self.objectives))
            if attempt is None or attempt.is_over:
                return Verdict.STOP
            seen, left_out = finite_part(seen)
            self._jobs.left_out(self._history[key.trial_uid], seen.fidelity, left_out)
            try:
                fresh = self._ledger.record(self._lease, key, seen)
            except StaleAttempt:
                del self._running[key.trial_uid]
                return Verdict.STOP
            if fresh:  # an epoch measured again was judged when it was first seen
                self._memory.measured(key.trial_uid, seen)
                return self._judge(attempt, seen)
            if not self.stopping:
                return Verdict.CONTINUE
        return Verdict.PAUSE

    def tell(self, key: AttemptKey, failure: Failure | None = None) -> None:
        """Records that an attempt has ended: by itself, stopped, or failed.

        What becomes of the trial follows from what was recorded of it. One whose failure earns
        another attempt waits again. Telling an attempt twice, or one that is no longer the
        trial's newest, changes nothing.
        """
        with self._guarded():
            attempt = self._attempt(key)
            if attempt is None:
                return
            trial = self._history[key.trial_uid]
            ending = ending_of(
                trial,
                attempt,
                failure,
                budget=self._budget,
                objectives=self.objectives,
                earlier=self._earlier(trial),
            )
            if isinstance(ending, Ending):
                self._end(trial, attempt, ending)
            else:
                self._return(attempt, str(ending.kind), ending)
                if ending.kind is FailureKind.NO_SPACE:
                    self._course.block(ending.message)

    def give_back(self, key: AttemptKey, outcome: str = "interrupted") -> None:
        """Records that an attempt was dropped; its trial waits for another one.

        A trial that has reached its end already is told instead.
        """
        with self._guarded():
            attempt = self._attempt(key)
            if attempt is None:
                return
            if attempt.is_over or self._history[key.trial_uid].reached >= self._budget.maximum:
                self.tell(key)
            else:
                self._return(attempt, outcome, None)

    def request_stop(self, reason: str) -> None:
        """Asks for nothing new and for running attempts to pause; the first reason stays."""
        self._course.stop(reason)

    # What an engine, a display and the command line look at

    @property
    def stopping(self) -> bool:
        """Whether nothing new starts and what runs is to be given back."""
        return self._course.reason is not None

    @property
    def stop_reason(self) -> str | None:
        """`hours`, `target`, `broken`, `blocked`, `lease`, or what `request_stop` was told."""
        return self._course.reason

    @property
    def obstacle(self) -> str | None:
        """What keeps the study from going on until somebody clears it away: a full disk."""
        return self._course.obstacle

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing is left to start."""
        with self._lock:
            if self._running:
                return False
            return self.stopping or not (self._history.waiting or self._may_draw())

    @property
    def broken(self) -> str | None:
        """Why the search was broken off, or that every trial failed; None if all is well."""
        if self._course.broken is None and self.finished:
            return all_failed(self._history.trials)
        return self._course.broken

    @property
    def lost(self) -> LeaseLost | None:
        """Set once another driver has taken the study over; nothing was written since."""
        return self._lost

    @property
    def spent_s(self) -> float:
        """Search time over all resumes."""
        return self._course.spent_s

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials as last seen in the ledger, by number; ended ones without their candidates."""
        with self._lock:
            return self._history.trials

    def snapshot(self) -> Snapshot:
        """How the study stands now."""
        with self._lock:
            parts = (self._memory, self._running, self._course, self.config)
            return standing(*parts, judge=self.judge, now=self._clock.monotonic())

    def beat(self) -> None:
        """Renews the lease and accounts for the time since the last beat."""
        with self._guarded():
            self._lease = self._ledger.renew(self._lease)
            spent_s = self._course.unaccounted_s
            self._ledger.add_spent(self._lease, spent_s)
            self._course.account(spent_s)

    def _attend(self) -> None:
        """What is to be done at even intervals."""
        self.beat()
        self._take_up()

    def _take_up(self) -> None:
        """Does what others have asked for."""
        with self._guarded():
            ledger, lease = self._ledger, self._lease
            for asked in ledger.requests(lease.study_id):
                trials = ledger.trials(lease.study_id)  # ended ones here have no candidates
                self._memory.reopened(answer(ledger, lease, asked, trials, seed=self.config.seed))

    def _settle_losses(self) -> None:
        """Fail waiting trials that were lost too often, and put the others that were lost last."""
        with self._guarded():
            for trial in self._history.all_waiting:
                number = losses(self._ledger.attempts(trial.uid)) if trial.attempts else 0
                self._history.postpone(trial.uid, number)
                if number >= MAX_LOSSES:
                    failure = lost_too_often(self.name, trial.number)
                    ended = self._ledger.finish(
                        self._lease,
                        trial.uid,
                        key=None,
                        state=TrialState.FAIL,
                        reason=str(failure.kind),
                        violations=trial.violations,
                        failure=failure.to_dict(),
                    )
                    self._memory.ended(ended)

    def _may_draw(self) -> bool:
        if reason := self._memory.impossible:
            self._course.break_off(reason)
        return self._course.broken is None and self._memory.has_room

    def _propose(self) -> Trial | None:
        """Adds trials until one needs a worker; None if there is nothing to draw for now."""
        while not self._blocked and self._may_draw():
            try:
                proposal = self._memory.propose()
            except SpaceError as error:
                self._course.break_off(str(error))
                return None
            if proposal.twin is not None and not proposal.twin.state.is_terminal:
                self._blocked = True  # until its twin has ended there is no answer to give
                return None
            number = len(self._history)
            trial = self._ledger.add_trial(
                self._lease, proposal.new_trial(number, seed=derive_seed(self.config.seed, number))
            )
            self._memory.added(trial, proposal)
            if trial.state is TrialState.WAITING:
                return trial
        return None

    def _start(self, trial: Trial, node: str, pid: int) -> TrainingJob | None:
        """Starts an attempt; None if the trial needs none, for its driver died as it ended."""
        key = self._ledger.start_attempt(self._lease, trial.uid, node=node, pid=pid)
        attempt = Attempt(key=key, started=self._clock.monotonic())
        self._running[trial.uid] = attempt
        self._memory.started(trial, key.number, self._clock.now())
        if trial.measurements:
            verdict = self._judge(attempt, trial.measurements[-1])
            if verdict is Verdict.STOP or trial.reached >= self._budget.maximum:
                self.tell(key)
                return None
        parent = self._history.find(trial.parent)
        return self._jobs.make(
            trial, key, self._ledger.checkpoints(trial.uid), shares(self._earlier(trial), parent)
        )

    def _earlier(self, trial: Trial) -> list[str]:
        """How attempts at it have ended so far."""
        return [attempt.outcome or "" for attempt in self._ledger.attempts(trial.uid)]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One caller at a time; after a lost lease nothing more is written."""
        with self._lock:
            try:
                yield
            except LeaseLost as error:
                self._lost = error
                self._running.clear()
                self.request_stop("lease")

    def _attempt(self, key: AttemptKey) -> Attempt | None:
        attempt = self._running.get(key.trial_uid)
        return attempt if attempt is not None and attempt.key == key else None

    def _judge(self, attempt: Attempt, seen: Measurement) -> Verdict:
        trial = self._history[attempt.key.trial_uid]
        if seen.fidelity >= self._budget.maximum:
            return Verdict.CONTINUE
        if seen.fidelity in self._budget.rungs():
            attempt.failure = lacking(trial.cost, seen, self.objectives, self._budget)
            attempt.stopped = not self._memory.goes_on(trial, seen.fidelity)
        if attempt.is_over:
            return Verdict.STOP
        return Verdict.PAUSE if self.stopping else Verdict.CONTINUE

    def _end(self, trial: Trial, attempt: Attempt, ending: Ending) -> None:
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
        del self._running[trial.uid]
        self._blocked = False
        self._memory.ended(ended)
        self._ended.append(self._history[ended.uid])
        if reason := breaks_off(self._ended):
            self._course.break_off(reason)
        elif self._memory.reaches_target:
            self.request_stop("target")

    def _return(self, attempt: Attempt, outcome: str, failure: Failure | None) -> None:
        record = failure.to_dict() if failure else None
        self._ledger.give_back(self._lease, attempt.key, outcome, failure=record)
        trial = self._history[attempt.key.trial_uid]
        self._jobs.ended(trial, attempt.key, f"{outcome}; the trial waits for another", failure)
        del self._running[trial.uid]
        self._blocked = False
        self._history.put(replace(trial, state=TrialState.WAITING, failure=record))
