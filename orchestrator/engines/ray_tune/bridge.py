"""Bridge from Tune's hooks to the study: maps Tune's trials to attempts.

Tune aborts a run in which a hook raises. So no method raises: the first error is kept, ends the
run, and is raised by the engine afterwards. Tune's thread calls the hooks, the engine's thread
`abandon` and `requeue`; the study is safe for both. Independent of Ray.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from orchestrator.engines.ray_tune.attempt import Watchdog, timeout_failure
from orchestrator.engines.ray_tune.liveness import Heartbeats
from orchestrator.engines.ray_tune.messages import JobMessage, Report
from orchestrator.snapshot import Verdict
from orchestrator.timeouts import start_in_thread
from workers.failures import Failure, FailureKind
from workers.job import AttemptKey, TrainingJob

if TYPE_CHECKING:
    from orchestrator.study.driver import StudyDriver


RAISE_LIMIT = "If your code needs longer, raise resources.silence_s"
"""Suggested fix where a killed process may have been working."""

SAMPLING_WAIT_S = 0.05
"""Seconds for which Tune's loop waits for a sampled candidate before it serves its workers."""


class WorkerAction(Enum):
    """Action of a worker after its report."""

    CONTINUE = auto()
    """Continue the attempt."""
    REUSE = auto()
    """The attempt is over; the process may train another."""
    END = auto()
    """The attempt is over; the process ends."""


class Bridge:
    """One Tune run's view of a study; keeps the keys of running attempts by Tune's trial ids."""

    def __init__(
        self,
        study: "StudyDriver",
        *,
        slots: Callable[[], int],
        has_room: Callable[[Sequence[AttemptKey]], bool] = lambda _: True,
        with_resources: Callable[[TrainingJob], JobMessage],
        watch: Watchdog,
        max_attempts: int,
    ) -> None:
        """Create a bridge without attempts.

        Args:
            study: Supplies attempts and records their results.
            slots: Returns the number of slots of the cluster.
            has_room: Returns False if other users' programs occupy the slots.
            with_resources: Makes a job a message with the resources to place it with.
            watch: Time limits of silence.
            max_attempts: Number of attempts after which the run starts no more.
        """
        self._study = study
        self._slots = slots
        self._has_room = has_room
        self._with_resources = with_resources
        self._watch = watch
        self._left = max_attempts
        self._running: dict[str, AttemptKey] = {}
        self._slots_taken: dict[str, int] = {}
        self._asked: Future[TrainingJob | None] | None = None
        """The pending `ask` of the study."""
        self._ahead: Future[None] | None = None
        """The last `sample_ahead` of the study; None if an attempt has started since."""
        self.abandoned = False
        """True once the engine no longer waits for the run."""
        self.error: BaseException | None = None
        """The first error of a hook, which ends the run."""

    @property
    def stopping(self) -> bool:
        """Return True if running attempts are to be dropped now."""
        return self.abandoned or self.error is not None or self._study.stopping

    @property
    def exhausted(self) -> bool:
        """Return True if this run starts no further attempt."""
        return self.stopping or self._left <= 0 or self._study.finished

    @property
    def asking(self) -> bool:
        """Return True while the study samples the next candidate."""
        return self._asked is not None and not self._asked.done()

    def ask(self, trial_id: str) -> JobMessage | None:
        """Return the next attempt, if a slot is free and the study has sampled one."""
        try:
            if self._asked is None and (self.exhausted or not self._has_slot()):
                self._sample_ahead()
                return None
            job = self._answer()
            if job is None:
                return None
            self._ahead = None
            self._running[trial_id] = job.key
            self._left -= 1
            message = self._with_resources(job)
            self._slots_taken[trial_id] = message.slots
            return message
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's space may end the program
            self.fail(error)
            return None

    def _has_slot(self) -> bool:
        if sum(map(self._slots_taken.__getitem__, self._running)) >= self._slots():
            return False
        return self._has_room(list(self._running.values()))

    def _sample_ahead(self) -> None:
        """Let the study sample one candidate while all slots are busy, if there are several.

        With one slot the search is the same as in process, where each trial knows all before it.
        """
        if self._ahead is None and self._slots() > 1 and not self.exhausted:
            self._ahead = start_in_thread(self._study.sample_ahead, "archscout-sampling")
        elif self._ahead is not None and self._ahead.done():
            self._ahead.result()  # raises what the study has raised

    def _answer(self) -> TrainingJob | None:
        """Return the study's next job; None while it samples and attempts are running.

        Sampling may take seconds, in which Tune's only thread must record the workers' reports. An
        attempt that starts after the end of the run is requeued when the study is closed.
        """
        timeout_s = 0.0 if self._asked else SAMPLING_WAIT_S
        self._asked = self._asked or start_in_thread(self._study.ask, "archscout-sampling")
        while not wait([self._asked], timeout=timeout_s).done:
            if self._running or self.stopping:
                return None
            timeout_s = SAMPLING_WAIT_S
        answer, self._asked = self._asked, None
        return answer.result()

    def receive(self, trial_id: str, report: Report) -> WorkerAction:
        """Record a worker's report, and return the worker's next action by the study's verdict."""
        key = self._running.get(trial_id)
        if key is None:
            return WorkerAction.END
        try:
            return self._record(trial_id, key, report)
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self.fail(error)
            return WorkerAction.END

    def record_death(self, trial_id: str, reason: str) -> None:
        """Fail the attempt of a worker whose process died.

        Args:
            trial_id: Tune's id of the trial.
            reason: Ray's description of the death.
        """
        key = self._running.pop(trial_id, None)
        if key is None:
            return
        try:
            self._study.tell(key, self._failure_of_death(key, reason))
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self.fail(error)

    def expire(self, heartbeats: Heartbeats) -> list[str]:
        """Fail attempts without a recent heartbeat.

        Returns:
            Their Tune trials, whose processes are to be killed.
        """
        running = {key: trial_id for trial_id, key in self._running.items()}
        found = [running[key] for key in heartbeats.expired(list(running))]
        for trial_id in found:
            key = self._running.pop(trial_id)
            try:
                text = f"its process is suspended or does not respond. {RAISE_LIMIT}"
                self._study.tell(key, timeout_failure(text, ""))
            except Exception as error:  # noqa: BLE001 - see the module's docstring
                self.fail(error)
        return found

    def stopped(self) -> list[str]:
        """Forget attempts that the study has ended, as their trials were stopped by a user.

        Returns:
            Their Tune trials, whose processes are to be killed.
        """
        found = [
            trial_id
            for trial_id, key in self._running.items()
            if self._study.check(key) is Verdict.STOP
        ]
        return [trial_id for trial_id in found if self._running.pop(trial_id, None) is not None]

    def abandon(self) -> None:
        """Requeue every attempt and ignore later reports: Tune may be stuck."""
        self.abandoned = True
        self.requeue()

    def requeue(self) -> None:
        """Requeue every running attempt."""
        for trial_id in list(self._running):
            key = self._running.pop(trial_id, None)
            if key is None:
                continue
            try:
                self._study.requeue(key)
            except Exception as error:  # noqa: BLE001 - see the module's docstring
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Keep an error for the engine to raise; only the first one counts."""
        self.error = self.error or error

    def _record(self, trial_id: str, key: AttemptKey, report: Report) -> WorkerAction:
        verdict = Verdict.CONTINUE
        if report.measurement is not None:
            verdict = self._study.report(key, report.measurement)
        if verdict is Verdict.CONTINUE and not report.ended:
            return WorkerAction.CONTINUE
        if self._running.pop(trial_id, None) is None:
            # Requeued meanwhile by the thread that waits for the run.
            return WorkerAction.END
        if verdict is Verdict.PAUSE and not report.ended:
            self._study.requeue(key)
        else:
            self._study.tell(key, report.failure)
        if report.should_recycle or _is_harmful(report.failure):
            return WorkerAction.END
        return WorkerAction.REUSE

    def _failure_of_death(self, key: AttemptKey, reason: str) -> Failure:
        path = self._watch.file(key)
        stacks = path.read_text(errors="replace") if path.exists() else ""
        if stacks:
            text = f"its process did not respond for {self._watch.silence_s:.0f} s"
            return timeout_failure(f"{text}: one call held the GIL. {RAISE_LIMIT}", stacks)
        first = "worker process died without an exception"
        return replace(Failure.without_traceback(_kind_of_death(reason), first), traceback=reason)


def _kind_of_death(reason: str) -> FailureKind:
    """Return the class of a process's death, which Ray 2.60 describes in prose only."""
    if "low on memory" in reason:  # killed by Ray's memory monitor
        return FailureKind.OUT_OF_MEMORY
    if "its worker process has died" in reason:
        return FailureKind.CRASH
    return FailureKind.INFRASTRUCTURE


def _is_harmful(failure: Failure | None) -> bool:
    """Return True if the failed process may be in a state that harms the next trial."""
    return failure is not None and failure.kind is not FailureKind.DIVERGED
