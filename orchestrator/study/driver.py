"""Drive a study: ask for the next attempt, report its measurements, tell its outcome.

    with StudyDriver(record=row, config=config, ledger=ledger, ...) as study:
        while job := study.ask():
            for measurement in start(job, dataset):
                if study.report(job.key, measurement) != "continue":
                    break
            study.tell(job.key)

Everything is recorded in the ledger first; the driver itself is rebuilt from the ledger.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from orchestrator.clock import Clock, SystemClock
from orchestrator.config.resources import with_gpu
from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Effect, Lease, LeaseLostError, Ledger, LedgerError, StudyRow
from orchestrator.sampling.candidates import Space
from orchestrator.snapshot import Snapshot, Verdict
from orchestrator.study.heartbeat import Heartbeat
from orchestrator.study.limits import all_failed
from orchestrator.study.new_trials import NewTrials
from orchestrator.study.parts import DriverContext, StudyParts, after_change, make_parts
from orchestrator.study.requests.answering import answer_requests
from orchestrator.study.requests.enqueue import ENQUEUE
from orchestrator.study.requests.pause import PAUSE, confirm_pause, is_requested
from orchestrator.study.state import take_snapshot
from orchestrator.trial import Trial
from search_spaces.task import Task
from workers.failures import Failure
from workers.job import AttemptKey, TeacherRef, TrainingJob
from workers.measurement import Measurement
from workers.storage import Storage

_HEARTBEAT_S = 10.0
"""A third of the lease's duration: two renewals may fail before the lease is lost."""
_POLL_INTERVAL_S = 1.0
"""Seconds between two queries for open requests."""


class StudyDriver:
    """One study, between the ledger and an engine; safe to use from several threads.

    A trial's errors are recorded, never raised; those of the ledger are, such as a full disk.

    Args:
        record: The study's row in the ledger.
        config: The study's config; its engine decides `resources.gpu` where that is None.
        ledger: Ledger that everything is recorded in.
        lease: Lease on the study.
        space: The study's space.
        task: Task that networks are built for; None counts no costs.
        checkpoints_dir: Checkpoints go to `checkpoints_dir/STUDY/TRIAL_UID`.
        logs_dir: Logs go to `logs_dir/STUDY/NUMBER.log`; None keeps none.
        teacher: Model that loss terms distil from; None without one.
        confirm_only: Confirm the trials that there are, and search no further.
        clock: Source of times; this machine's clock by default.

    Raises:
        SeedPointError: A seed point does not fit the space.
        WarmStartError: An earlier study is missing, or its results are not comparable.
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
        confirm_only: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.name, self.config, self._record = record.name, config, record
        self._ledger, self._lease = ledger, lease
        self._lock = threading.RLock()
        self._closed = self._sealed = False
        self.lease_lost: LeaseLostError | None = None
        """Error of a lease that another driver took over; nothing was written since."""
        self._heartbeats: list[Heartbeat] = []
        self._context = DriverContext(
            ledger=ledger,
            lease=lease,
            task=task,
            checkpoints=checkpoints_dir / record.name,
            logs=logs_dir and logs_dir / record.name,
            teacher=teacher,
            confirm_only=confirm_only,
            clock=clock or SystemClock(),
        )
        self._set_parts(space, None)
        self._new_trials = NewTrials(
            ledger,
            lease,
            parts=lambda: self._parts,
            guarded=self._guarded,
            inactive=lambda: self._inactive,
        )

    def __enter__(self) -> Self:
        with self._guarded():
            self._attempts.settle_losses(self.name)
        self._answer_requests()
        self._advance()
        # The lease has a thread of its own, so that nothing that holds the lock delays it.
        beats = {self._renew: _HEARTBEAT_S, self._account: _HEARTBEAT_S}
        beats[self._answer_requests] = _POLL_INTERVAL_S
        self._heartbeats = [
            Heartbeat(beat, interval_s=seconds, ignore=LedgerError)
            for beat, seconds in beats.items()
        ]
        for heartbeat in self._heartbeats:
            heartbeat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Requeue running attempts and record the search time; the caller releases the lease."""
        for heartbeat in self._heartbeats:
            heartbeat.stop()
        with self._guarded():
            self._closed = True
            for attempt in tuple(self._attempts.running.values()):
                self.requeue(attempt.key)
            self._advance()
            confirm_pause(self._ledger, self._lease)
        self._renew()
        self._account()

    # Called by an engine

    def ask(self, *, node: str | None = None, pid: int | None = None) -> TrainingJob | None:
        """Return the next attempt to run, already recorded as running.

        Interrupted trials come first, then paused ones that their rung promotes now, then new ones.
        Sampling a new one may take seconds, without blocking `report` and `tell`; it uses the
        results known when it began.

        Args:
            node: Host that runs it, for display; this host by default.
            pid: Process that runs it, for display; this process by default.

        Returns:
            None if nothing can start now; unless `finished`, ask again after a tell.
        """
        where = node or socket.gethostname(), pid or os.getpid()
        while True:
            job = self._start_waiting(*where)
            if job is None and self._new_trials.add_next():
                continue
            if job is None:
                self._advance()
            return job

    def sample_ahead(self) -> None:
        """Record the next new trial as waiting, while all slots are busy: none waits for a sampler.

        Does nothing if another trial may start. One that is never started waits for a resume.
        """
        self._new_trials.add_ahead()

    def report(self, key: AttemptKey, measurement: Measurement) -> Verdict:
        """Record a measurement and decide whether its attempt continues.

        Returns:
            STOP also for an attempt that is no longer the trial's newest: its worker should exit.
        """
        with self._guarded():
            return self._attempts.report(key, measurement)
        return Verdict.PAUSE

    def check(self, key: AttemptKey) -> Verdict:
        """Return whether an attempt continues before its next measurement; takes no lock."""
        if not self._attempts.is_running(key):
            return Verdict.STOP
        return Verdict.PAUSE if self.stopping else Verdict.CONTINUE

    def tell(self, key: AttemptKey, failure: Failure | None = None) -> None:
        """Record the end of an attempt, and the outcome of its trial.

        The outcome follows from the recorded measurements. A trial whose failure allows a retry
        waits for another attempt. Telling an attempt twice, or one that is no longer the trial's
        newest, changes nothing.

        Args:
            key: The attempt.
            failure: The failure that ended it; None if it ended by itself or was stopped.
        """
        with self._guarded():
            self._attempts.tell(key, failure)
            self._new_trials.unblock()
            self._advance()

    def requeue(self, key: AttemptKey, outcome: str = "interrupted") -> None:
        """Record that an attempt was dropped; its trial waits for another one.

        A trial that has already reached its outcome is finished instead.
        """
        with self._guarded():
            self._attempts.requeue(key, outcome)
            self._new_trials.unblock()
            self._advance()

    def settle_gpu(self, gpu: float) -> float | None:
        """Record the GPUs of a trial where the config leaves them open.

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

    def seal(self) -> bool:
        """Answer no more requests, unless one has given the study more to run.

        Returns:
            False if there is more to run.
        """
        with self._lock:
            self._sealed = self.finished or self.stopping
            return self._sealed

    def request_stop(self, reason: str) -> None:
        """Start nothing new and pause running attempts; the first reason is kept."""
        self._limits.stop(reason)

    # Read by an engine, a display and the command line

    @property
    def stopping(self) -> bool:
        """True if nothing new starts and running attempts are to be requeued."""
        return self._limits.stop_reason is not None

    @property
    def stop_reason(self) -> str | None:
        """`hours`, `target`, `broken`, `blocked`, `lease`, or the argument of `request_stop`."""
        return self._limits.stop_reason

    @property
    def block_reason(self) -> str | None:
        """Obstacle that the user must remove before the study can continue, such as a full disk."""
        return self._limits.block_reason

    @property
    def finished(self) -> bool:
        """True if nothing runs and nothing is left to start."""
        with self._lock:
            if self._attempts.running:
                return False
            return self.stopping or self._agenda.is_empty

    @property
    def search_finished(self) -> bool:
        """True if the search itself is at its end, whether it was confirmed or not."""
        with self._lock:
            return self._agenda.search_finished

    @property
    def end_reason(self) -> str | None:
        """Reason why the search ended before its other limits, or why the study stopped."""
        return self.stop_reason or self._limits.search_end

    @property
    def abort_reason(self) -> str | None:
        """Reason why the search was aborted, or that every trial failed; None otherwise."""
        if self._limits.abort_reason is None and self.finished:
            return all_failed(self._state.index.trials)
        return self._limits.abort_reason

    @property
    def spent_s(self) -> float:
        """Search time in seconds, over all resumes."""
        return self._limits.spent_s

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials as last seen in the ledger, by number; ended ones without their candidates."""
        with self._lock:
            return self._state.index.trials

    def snapshot(self) -> Snapshot:
        """Return the present state of the study, for display."""
        with self._lock:
            return take_snapshot(self._state, self._attempts.running, self._limits)

    @property
    def _inactive(self) -> bool:
        return self._closed or self._sealed or self.stopping

    def _renew(self) -> None:
        """Renew the lease, without the study's lock."""
        try:
            self._ledger.renew(self._lease)
        except LeaseLostError as error:
            self._lose(error)

    def _account(self) -> None:
        """Record the search time since the last call."""
        with self._guarded():
            spent_s = self._limits.unaccounted_s
            self._ledger.add_spent(self._lease, spent_s)
            self._limits.account(spent_s)

    def _answer_requests(self) -> None:
        """Answer the open requests; without any, no lock is taken."""
        requests = self._ledger.requests(self._lease.study_id)
        if not requests:
            return
        if is_requested(requests, self._lease):
            self.request_stop(PAUSE)
        with self._guarded():
            if not self._sealed:
                self._agenda.read_requests()
                for effect in answer_requests(self._ledger, self._lease, self.name, by_driver=True):
                    self._follow(effect)
                self._advance()
        for request in requests:
            if request.kind == ENQUEUE and not self._sealed:
                self._new_trials.add_designs(request, self._read_row, self._follow)

    def _read_row(self) -> StudyRow:
        return self._ledger.study(self.name) or self._record

    def _follow(self, effect: Effect) -> None:
        """Do what a recorded effect means for this driver; a change rebuilds every part."""
        if effect.changes:
            self._rebuild()
        else:
            self._attempts.follow(effect)
        self._new_trials.unblock()

    def _rebuild(self) -> None:
        """Make all parts again from what the ledger has now."""
        self._account()
        before, self._record = self._record, self._read_row()
        changed = before, self._record, self.config, self._space
        self.config, space = after_change(self._context, *changed)
        self._set_parts(space, self._parts)

    def _set_parts(self, space: Space, before: StudyParts | None) -> None:
        """Make all parts from the ledger; running attempts continue."""
        parts = make_parts(self._context, self._record, self.config, space, before)
        self._parts, self._space = parts, space
        self._state, self._limits = parts.state, parts.limits
        self._attempts, self._agenda = parts.attempts, parts.agenda

    def _advance(self) -> None:
        """End paused trials that wait no longer, and begin what follows the search."""
        with self._guarded():
            if self.lease_lost is None:
                self._agenda.advance()

    def _start_waiting(self, node: str, pid: int) -> TrainingJob | None:
        with self._guarded():
            while not self._inactive and (trial := self._agenda.next_waiting) is not None:
                if trial.state.is_terminal:
                    self._attempts.add_continuation(trial)
                    self._rebuild()
                    continue
                job = self._attempts.start(trial, node, pid)
                if job is not None:
                    return job
                self._new_trials.unblock()
        return None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Hold the lock; after a lost lease nothing more is written."""
        with self._lock:
            try:
                yield
            except LeaseLostError as error:
                self._lose(error)

    def _lose(self, error: LeaseLostError) -> None:
        self.lease_lost = error
        self.request_stop("lease")
        with self._lock:
            self._attempts.running.clear()
