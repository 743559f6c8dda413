"""Between Tune's hooks and the study: which Tune trial is which attempt, and nothing more.

Tune kills a run in which a hook raises. So nothing raises out of here: the first error is kept,
ends the run, and is raised by the engine afterwards. Tune's hooks come from one thread, `abandon`
and `give_back` from another; the study is safe for both. Knows no Ray.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from orchestrator.engines.ray_tune.attempt import Watchdog, silent
from orchestrator.engines.ray_tune.deadline import in_a_thread
from orchestrator.engines.ray_tune.liveness import Heartbeats
from orchestrator.engines.ray_tune.messages import JobMessage, Report
from orchestrator.snapshot import Verdict
from workers.failures import Failure, FailureKind
from workers.job import AttemptKey, TrainingJob

if TYPE_CHECKING:
    from orchestrator.study.driver import StudyDriver


RAISE_LIMIT = "If your code needs longer, raise resources.silence_s"
"""Suggested fix where a process was ended that may have been at work."""


SOON_S = 0.05
"""How long Tune's loop waits for a draw before it looks after its workers again."""


class Next(Enum):
    """What becomes of a worker after its report."""

    GO_ON = auto()
    """It trains on."""
    FREE = auto()
    """Its attempt is over; it may be given another."""
    DISMISS = auto()
    """Its attempt is over, and so is its process."""


class Bridge:
    """One Tune run's view of a study; keeps the keys of open attempts by Tune's trial ids."""

    def __init__(
        self,
        study: "StudyDriver",
        *,
        slots: Callable[[], int],
        has_place: Callable[[Sequence[AttemptKey]], bool] = lambda _: True,
        dress: Callable[[TrainingJob], JobMessage],
        watch: Watchdog,
        at_most: int,
    ) -> None:
        self._study = study
        self._slots = slots
        self._has_place = has_place
        self._with_resources = dress
        self._watch = watch
        self._left = at_most
        self._open: dict[str, AttemptKey] = {}
        self._taken: dict[str, int] = {}
        self._asked: Future[TrainingJob | None] | None = None
        """The question that the study is answering."""
        self.abandoned = False
        """Whether nobody waits for the run any more."""
        self.error: BaseException | None = None
        """The first error of a hook; the run is over once it is there."""

    @property
    def over(self) -> bool:
        """Whether what runs is to be dropped now."""
        return self.abandoned or self.error is not None or self._study.stopping

    @property
    def done(self) -> bool:
        """Whether this run starts no further attempt."""
        return self.over or self._left <= 0 or self._study.finished

    @property
    def asking(self) -> bool:
        """Whether the study is still drawing what runs next."""
        return self._asked is not None and not self._asked.done()

    def ask(self, trial_id: str) -> JobMessage | None:
        """The next attempt, if there is a slot for it and the study has one by now."""
        try:
            # Asked for only when a slot is free: a suggestion drawn ahead would know less.
            if self._asked is None and (self.done or not self._has_slot()):
                return None
            job = self._answer()
            if job is None:
                return None
            self._open[trial_id] = job.key
            self._left -= 1
            parcel = self._with_resources(job)
            self._taken[trial_id] = parcel.slots
            return parcel
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's space may end the program
            self.fail(error)
            return None

    def _has_slot(self) -> bool:
        if sum(map(self._taken.__getitem__, self._open)) >= self._slots():
            return False
        return self._has_place(list(self._open.values()))

    def _answer(self) -> TrainingJob | None:
        """The study's answer; None while it draws, unless there is nothing else to wait for.

        A draw may take seconds, in which Tune's one thread must record what workers report. An
        attempt that starts after the run is over is given back as the study is closed.
        """
        patience_s = 0.0 if self._asked else SOON_S
        self._asked = self._asked or in_a_thread(self._study.ask, "archscout-draw")
        while not wait([self._asked], timeout=patience_s).done:
            if self._open or self.over:
                return None
            patience_s = SOON_S
        answer, self._asked = self._asked, None
        return answer.result()

    def receive(self, trial_id: str, report: Report) -> Next:
        """Record a worker's report; what it does next is the study's verdict."""
        key = self._open.get(trial_id)
        if key is None:
            return Next.DISMISS
        try:
            return self._record(trial_id, key, report)
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self.fail(error)
            return Next.DISMISS

    def lost(self, trial_id: str, reason: str) -> None:
        """A worker's process is gone without a word."""
        key = self._open.pop(trial_id, None)
        if key is None:
            return
        try:
            self._study.tell(key, self._autopsy(key, reason))
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self.fail(error)

    def expire(self, signs: Heartbeats) -> list[str]:
        """Tell of attempts whose process is stopped; their Tune trials, to be ended."""
        running = {key: trial_id for trial_id, key in self._open.items()}
        found = [running[key] for key in signs.stopped(list(running))]
        for trial_id in found:
            key = self._open.pop(trial_id)
            try:
                text = f"its process is stopped, or does not answer. {RAISE_LIMIT}"
                self._study.tell(key, silent(text, ""))
            except Exception as error:  # noqa: BLE001 - see the module's docstring
                self.fail(error)
        return found

    def abandon(self) -> None:
        """Give everything back and listen no more: Tune may be stuck, and nobody waits for it."""
        self.abandoned = True
        self.requeue()

    def requeue(self) -> None:
        """Return every open attempt to the study, to be started anew."""
        for trial_id in list(self._open):
            key = self._open.pop(trial_id, None)
            if key is None:
                continue
            try:
                self._study.requeue(key)
            except Exception as error:  # noqa: BLE001 - see the module's docstring
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Keep an error for the engine to raise; the first one counts."""
        self.error = self.error or error

    def _record(self, trial_id: str, key: AttemptKey, report: Report) -> Next:
        verdict = Verdict.CONTINUE
        if report.measurement is not None:
            verdict = self._study.report(key, report.measurement)
        if verdict is Verdict.CONTINUE and not report.ended:
            return Next.GO_ON
        if self._open.pop(trial_id, None) is None:
            # Given back meanwhile by the thread that waits for the run.
            return Next.DISMISS
        if verdict is Verdict.PAUSE and not report.ended:
            self._study.requeue(key)
        else:
            self._study.tell(key, report.failure)
        return Next.DISMISS if report.should_recycle or _hurts(report.failure) else Next.FREE

    def _autopsy(self, key: AttemptKey, reason: str) -> Failure:
        path = self._watch.file(key)
        stacks = path.read_text(errors="replace") if path.exists() else ""
        if stacks:
            text = f"its process did not respond for {self._watch.silence_s:.0f} s"
            return silent(f"{text}: one call held Python's lock. {RAISE_LIMIT}", stacks)
        first = "worker process ended without a word"
        return replace(Failure.without_traceback(_kind_of_death(reason), first), traceback=reason)


def _kind_of_death(reason: str) -> FailureKind:
    """What killed a process; Ray 2.60 tells it in prose alone."""
    if "low on memory" in reason:  # its monitor kills what takes a node's last
        return FailureKind.OUT_OF_MEMORY
    if "its worker process has died" in reason:
        return FailureKind.CRASH
    return FailureKind.INFRASTRUCTURE


def _hurts(failure: Failure | None) -> bool:
    """Whether a process that failed so may be in a state that harms the next trial."""
    return failure is not None and failure.kind is not FailureKind.DIVERGED
