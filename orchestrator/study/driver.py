"""The study: what is asked, reported and told, recorded before anything else happens.

    with StudyDriver(record=row, config=config, ledger=ledger, ...) as study:
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
from orchestrator.config.resources import with_gpu
from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Lease, LeaseLostError, Ledger, LedgerError, StudyRow
from orchestrator.sampling.halving import main_objective
from orchestrator.sampling.optuna_sampler import derive_seed
from orchestrator.sampling.proposals import Proposal, Space, UserSpaceError
from orchestrator.sampling.warm_start import StudyIdentity, load_warm_start
from orchestrator.snapshot import Snapshot, Verdict
from orchestrator.study.attempts import Attempts
from orchestrator.study.heartbeat import Heartbeat
from orchestrator.study.jobs import Jobs
from orchestrator.study.limits import SearchLimits
from orchestrator.study.lost_attempts import settle_losses
from orchestrator.study.outcome import all_failed
from orchestrator.study.retries import answer_request
from orchestrator.study.state import StudyState, standing
from orchestrator.trial import Trial
from search_spaces.task import Task
from workers.failures import Failure
from workers.job import AttemptKey, TeacherRef, TrainingJob
from workers.measurement import Measurement
from workers.storage import Storage

_BEAT_S = 10.0  # a third of the lease's time: two beats may fail before it is lost


class StudyDriver:
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
        checkpoints_dir: Storage,
        logs_dir: Path | None = None,
        teacher: TeacherRef | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Rebuilds the study from the ledger.

        Args:
            record: The study's row.
            config: What its user asked for; its engine settles `resources.gpu` where that is None.
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
        self._record = record
        self.config = config
        self.objectives = config.objectives
        self.judge = main_objective(self.objectives)
        self._ledger = ledger
        self._lease = lease
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._drawing = threading.Lock()  # taken before the other one, never after it
        checkpoints, logs = checkpoints_dir / record.name, logs_dir and logs_dir / record.name
        self._memory = StudyState(
            config=config,
            objectives=self.objectives,
            space=space,
            task=task,
            trials=ledger.trials(record.id),
            checkpoints=checkpoints,
            clock=self._clock,
            earlier=load_warm_start(ledger, config, StudyIdentity.from_row(record)),
        )
        self._history = self._memory.history
        self._blocked = False
        self._closed = False
        self._lost: LeaseLostError | None = None
        self._course = SearchLimits(self._clock, spent_s=record.spent_s, hours=config.stop.hours)
        if self._memory.reaches_target:
            self._course.stop("target")
        self._attempts = Attempts(
            ledger=ledger,
            lease=lease,
            config=config,
            memory=self._memory,
            jobs=Jobs(config, checkpoints=checkpoints, logs=logs, teacher=teacher),
            course=self._course,
            clock=self._clock,
        )
        # The lease has a thread of its own: nothing that holds the study's lock may delay it.
        self._heartbeats = [
            Heartbeat(beat, every_s=_BEAT_S, forgives=LedgerError)
            for beat in (self._renew, self._attend)
        ]

    def __enter__(self) -> Self:
        self._settle_losses()
        self._take_up()
        for heartbeat in self._heartbeats:
            heartbeat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back what still runs and accounts for the time; the lease stays the caller's."""
        for heartbeat in self._heartbeats:
            heartbeat.stop()
        with self._lock:
            self._closed = True
            for attempt in tuple(self._attempts.running.values()):
                self.requeue(attempt.key)
        self._renew()
        self._account()

    # What an engine calls

    def ask(self, *, node: str | None = None, pid: int | None = None) -> TrainingJob | None:
        """The next attempt to run, already recorded as running.

        Unfinished trials come first, then new ones. While a new one is drawn, which may take
        seconds, reports and tells go on; the draw sees what had been told when it began.

        Args:
            node: Where it will run, for people; this host by default.
            pid: The process that will run it, for people; this one by default.

        Returns:
            None if there is nothing to start now; unless `finished`, ask again after a tell.
        """
        where = node or socket.gethostname(), pid or os.getpid()
        while True:
            job = self._start_waiting(*where)
            if job is not None or not self._draw():
                return job

    def report(self, key: AttemptKey, seen: Measurement) -> Verdict:
        """Records a measurement and judges it.

        Returns:
            STOP also for an attempt that is no longer the trial's newest: its worker should exit.
        """
        with self._guarded():
            return self._attempts.report(key, seen)
        return Verdict.PAUSE

    def tell(self, key: AttemptKey, failure: Failure | None = None) -> None:
        """Records that an attempt has ended: by itself, stopped, or failed.

        What becomes of the trial follows from what was recorded of it. One whose failure earns
        another attempt waits again. Telling an attempt twice, or one that is no longer the
        trial's newest, changes nothing.
        """
        with self._guarded():
            self._attempts.tell(key, failure)
            self._blocked = False

    def requeue(self, key: AttemptKey, outcome: str = "interrupted") -> None:
        """Records that an attempt was dropped; its trial waits for another one.

        A trial that has reached its end already is told instead.
        """
        with self._guarded():
            self._attempts.requeue(key, outcome)
            self._blocked = False

    def settle_gpu(self, gpu: float) -> float | None:
        """Record the GPUs of a trial where the config leaves them to the machines that are found.

        Returns:
            GPUs of a trial at the last start; None if there was none.
        """
        if self.config.resources.gpu is not None:
            return self.config.resources.gpu
        before = StudyConfig.from_json(self._record.config_json).resources
        self.config = with_gpu(self.config, gpu, found=True)
        if before != self.config.resources:
            with self._guarded():
                self._ledger.set_study_config(self._lease, self.config.canonical_json())
        return before.gpu

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
    def block_reason(self) -> str | None:
        """What keeps the study from going on until somebody clears it away: a full disk."""
        return self._course.block_reason

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing is left to start."""
        with self._lock:
            if self._attempts.running:
                return False
            return self.stopping or not (self._history.waiting or self._may_draw())

    @property
    def abort_reason(self) -> str | None:
        """Why the search was broken off, or that every trial failed; None if all is well."""
        if self._course.abort_reason is None and self.finished:
            return all_failed(self._history.trials)
        return self._course.abort_reason

    @property
    def lost(self) -> LeaseLostError | None:
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
            parts = (self._memory, self._attempts.running, self._course, self.config)
            return standing(*parts, judge=self.judge, now=self._clock.monotonic())

    @property
    def _over(self) -> bool:
        """Whether nothing starts any more."""
        return self._closed or self.stopping

    def _renew(self) -> None:
        """Renews the lease, without the study's lock."""
        try:
            self._ledger.renew(self._lease)
        except LeaseLostError as error:
            self._lose(error)

    def _account(self) -> None:
        """Accounts for the time since the last call."""
        with self._guarded():
            spent_s = self._course.unaccounted_s
            self._ledger.add_spent(self._lease, spent_s)
            self._course.account(spent_s)

    def _attend(self) -> None:
        """What is to be done at even intervals."""
        self._account()
        self._take_up()

    def _take_up(self) -> None:
        """Does what others have asked for."""
        with self._guarded():
            ledger, lease = self._ledger, self._lease
            for asked in ledger.requests(lease.study_id):
                trials = ledger.trials(lease.study_id)  # ended ones here have no candidates
                self._memory.reopened(
                    answer_request(ledger, lease, asked, trials, seed=self.config.seed)
                )

    def _settle_losses(self) -> None:
        """Fail waiting trials that were lost too often; the others that were lost start last."""
        with self._guarded():
            waiting = self._history.all_waiting
            for trial, number in settle_losses(self._ledger, self._lease, self.name, waiting):
                if trial.state.is_terminal:
                    self._memory.ended(trial)
                else:
                    self._history.postpone(trial.uid, number)

    def _may_draw(self) -> bool:
        if reason := self._memory.impossible:
            self._course.abort(reason)
        return self._course.abort_reason is None and self._memory.has_room

    def _start_waiting(self, node: str, pid: int) -> TrainingJob | None:
        with self._guarded():
            while not self._over and (trial := self._history.waiting) is not None:
                job = self._attempts.start(trial, node, pid)
                if job is not None:
                    return job
                self._blocked = False
        return None

    def _draw(self) -> bool:
        """Adds the next trial, others go on meanwhile; False if there is none to draw for now."""
        with self._drawing:
            with self._guarded():
                if self._history.waiting is not None:
                    return not self._over
                if self._over or self._blocked or not self._may_draw():
                    return False
                number, draw = len(self._history), self._memory.prepare_draw()
            try:
                proposal = draw()
            except UserSpaceError as error:
                self._course.abort(str(error))
                return False
            with self._guarded():
                return self._add(number, proposal)
        return False

    def _add(self, number: int, proposal: Proposal) -> bool:
        """Records a proposal as a trial, unless the study has changed too much meanwhile."""
        if self._over or number != len(self._history):  # a retry may have taken the number
            self._memory.discard(proposal)
            return not self._over
        if proposal.twin is not None:
            twin = self._history[proposal.twin.uid]  # it may have ended since
            if not twin.state.is_terminal:
                self._blocked = True  # until its twin has ended there is no answer to give
                return False
            proposal = replace(proposal, twin=twin)
        trial = self._ledger.add_trial(
            self._lease, proposal.new_trial(number, seed=derive_seed(self.config.seed, number))
        )
        self._memory.added(trial, proposal)
        return True

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One caller at a time; after a lost lease nothing more is written."""
        with self._lock:
            try:
                yield
            except LeaseLostError as error:
                self._lose(error)

    def _lose(self, error: LeaseLostError) -> None:
        self._lost = error
        self.request_stop("lease")
        with self._lock:
            self._attempts.running.clear()
