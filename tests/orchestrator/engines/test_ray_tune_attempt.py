"""An attempt in a worker's process, and the bridge to the study: both without Ray."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engines.ray_tune import bridge as bridges
from orchestrator.engines.ray_tune.attempt import TRAINING_THREAD, AttemptRunner, Start, Watchdog
from orchestrator.engines.ray_tune.bridge import Bridge, WorkerAction
from orchestrator.engines.ray_tune.cluster import slots_of
from orchestrator.engines.ray_tune.messages import JobMessage, Report
from orchestrator.snapshot import Verdict
from workers.budget import Budget
from workers.data.spec import DataSpec
from workers.failures import Failure, FailureKind
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement, Progress

Seen = Iterator[Measurement | Progress]


def job(number: int = 0, *, train: str | None = None) -> TrainingJob:
    return TrainingJob(
        key=AttemptKey(trial_uid=f"{number:032x}", number=1, fence="f"),
        trial_number=number,
        candidate={"schema": 1, "decisions": {}},
        data=DataSpec(source="surrogate"),
        budget=Budget(maximum=3),
        seed=number,
        train=train,
    )


def measured(fidelity: int) -> Measurement:
    return Measurement(fidelity=fidelity, metrics={"val_accuracy": 0.5}, elapsed_s=0.1)


@pytest.fixture
def watch(tmp_path: Path) -> Watchdog:
    return Watchdog(silence_s=0.3, stacks=tmp_path / "stacks")


Begin = Callable[[TrainingJob, Start], AttemptRunner]


@pytest.fixture
def begin(watch: Watchdog) -> Iterator[Begin]:
    with ExitStack() as left:
        thread = left.enter_context(ThreadPoolExecutor(1, thread_name_prefix=TRAINING_THREAD))

        def make(job: TrainingJob, start: Start) -> AttemptRunner:
            attempt = AttemptRunner(job, start, watch, thread)
            left.callback(attempt.close)
            return attempt

        yield make


def test_each_step_reports_one_measurement_and_the_last_one_the_end(begin: Begin) -> None:
    def start(job: TrainingJob) -> Seen:
        for epoch in (1, 2, 3):
            yield Progress(epoch=epoch, done=0.5)
            yield measured(epoch)

    attempt = begin(job(), start)
    reports = [attempt.advance() for _ in range(3)]
    assert [r.measurement and r.measurement.fidelity for r in reports] == [1, 2, 3]
    assert [r.ended for r in reports] == [False, False, True]


def test_an_exception_is_reported_with_its_traceback(begin: Begin) -> None:
    def start(job: TrainingJob) -> Seen:
        yield measured(1)
        raise SystemExit(3)

    attempt = begin(job(), start)
    attempt.advance()
    report = attempt.advance()
    assert report.ended
    assert report.failure is not None
    assert "SystemExit" in report.failure.traceback


def test_silence_ends_an_attempt_with_its_stack_trace(begin: Begin) -> None:
    released = threading.Event()

    def start(job: TrainingJob) -> Seen:
        yield measured(1)
        released.wait()

    attempt = begin(job(), start)
    attempt.advance()
    report = attempt.advance()
    released.set()
    assert report.failure is not None
    assert report.failure.kind is FailureKind.TIMEOUT
    assert "released.wait()" in report.failure.traceback


def test_progress_alone_keeps_an_attempt_alive(begin: Begin) -> None:
    def start(job: TrainingJob) -> Seen:
        for _ in range(6):
            time.sleep(0.1)
            yield Progress(epoch=1, done=0.5)
        yield measured(1)

    assert begin(job(), start).advance().measurement == measured(1)


@pytest.mark.parametrize("slow_epoch", [1, 2, 3])
@pytest.mark.parametrize(
    ("train", "user_silence_s", "ended"),
    [(None, None, True), ("mine.py:train", None, False), ("mine.py:train", 0.2, True)],
)
def test_users_own_training_has_no_time_limit_unless_they_set_one(
    watch: Watchdog, train: str | None, user_silence_s: float | None, ended: bool, slow_epoch: int
) -> None:
    def start(job: TrainingJob) -> Seen:
        for epoch in (1, 2, 3):
            time.sleep(2 * watch.silence_s if epoch == slow_epoch else 0)
            yield measured(epoch)

    with ThreadPoolExecutor(1) as thread:
        own = replace(watch, user_silence_s=user_silence_s)
        attempt = AttemptRunner(job(train=train), start, own, thread)
        reports = [attempt.advance() for _ in range(slow_epoch)]
        attempt.close()
    failure = reports[-1].failure
    assert (failure is not None) == ended
    if failure is not None:
        assert failure.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize("train", [None, "mine.py:train"])
def test_a_heartbeat_is_sent_before_training_continues(watch: Watchdog, train: str | None) -> None:
    heartbeats: list[None] = []
    seen: list[int] = []

    def start(job: TrainingJob) -> Seen:
        for epoch in (1, 2):
            seen.append(len(heartbeats))
            yield measured(epoch)

    class AtOnce(ThreadPoolExecutor):
        """Trains before the caller can look, like a process that is suspended at once."""

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            pending = super().submit(*args, **kwargs)
            wait([pending])
            return pending

    with AtOnce(1) as thread:
        attempt = AttemptRunner(
            job(train=train), start, watch, thread, lambda: heartbeats.append(None)
        )
        for _ in range(2):
            heartbeats.clear()
            attempt.advance()
        attempt.close()
    assert seen == [1, 1]


def test_closing_lets_the_generator_clean_up(begin: Begin, watch: Watchdog) -> None:
    closed = threading.Event()

    def start(job: TrainingJob) -> Seen:
        try:
            yield measured(1)
        finally:
            closed.set()

    attempt = begin(job(), start)
    attempt.advance()
    attempt.close()
    assert closed.is_set()
    assert list(watch.stacks.iterdir()) == []


@pytest.fixture(autouse=True)
def _sampling_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridges, "SAMPLING_WAIT_S", 60.0)


class StudyDouble:
    """Records reports, and returns a fixed verdict."""

    def __init__(self, verdict: Verdict = Verdict.CONTINUE) -> None:
        self.verdict = verdict
        self.asked = 0
        self.failures: list[tuple[str, Failure | None]] = []
        self.requeued: list[str] = []
        self.stopping = False
        self.finished = False

    def ask(self) -> TrainingJob:
        self.asked += 1
        return job(self.asked)

    def sample_ahead(self) -> None:
        pass

    def report(self, key: AttemptKey, measurement: Measurement) -> Verdict:
        return self.verdict

    def tell(self, key: AttemptKey, failure: Failure | None = None) -> None:
        self.failures.append((key.trial_uid, failure))

    def requeue(self, key: AttemptKey) -> None:
        self.requeued.append(key.trial_uid)


def bridge_to(study: object, watch: Watchdog, *, slots: int = 2, max_attempts: int = 100) -> Bridge:
    return Bridge(
        study,  # type: ignore[arg-type]  # a double
        slots=lambda: slots,
        with_resources=lambda job: JobMessage(
            job=replace(job, gpu_share=0.25), resources={}, slots=job.shares
        ),
        watch=watch,
        max_attempts=max_attempts,
    )


def test_no_more_attempts_run_than_there_are_slots(watch: Watchdog) -> None:
    study = StudyDouble()
    bridge = bridge_to(study, watch)
    messages = [bridge.ask(name) for name in "abc"]
    assert [message is None for message in messages] == [False, False, True]
    assert study.asked == 2
    assert bridge.receive("a", Report(ended=True)) is WorkerAction.REUSE
    assert isinstance(bridge.ask("c"), JobMessage)


def test_an_attempt_with_a_larger_share_takes_several_slots(watch: Watchdog) -> None:
    study = StudyDouble()
    study.ask = lambda: replace(job(1), shares=2)  # type: ignore[method-assign]
    bridge = bridge_to(study, watch, slots=3)
    messages = [bridge.ask(name) for name in "abc"]
    assert [message is None for message in messages] == [False, False, True]


def test_a_run_is_exhausted_after_its_number_of_attempts(watch: Watchdog) -> None:
    bridge = bridge_to(StudyDouble(), watch, max_attempts=1)
    assert bridge.ask("a") is not None
    assert bridge.exhausted
    assert not bridge.stopping


@pytest.mark.parametrize(
    ("report", "action"),
    [
        (Report(measurement=measured(1)), WorkerAction.CONTINUE),
        (Report(measurement=measured(3), ended=True), WorkerAction.REUSE),
        (Report(measurement=measured(3), ended=True, should_recycle=True), WorkerAction.END),
        (
            Report(ended=True, failure=Failure.without_traceback(FailureKind.DIVERGED, "nan")),
            WorkerAction.REUSE,
        ),
        (
            Report(ended=True, failure=Failure.without_traceback(FailureKind.USER_CODE, "no")),
            WorkerAction.END,
        ),
    ],
)
def test_a_process_is_reused_unless_it_is_to_be_recycled_or_failed(
    watch: Watchdog, report: Report, action: WorkerAction
) -> None:
    study = StudyDouble()
    bridge = bridge_to(study, watch)
    bridge.ask("a")
    assert bridge.receive("a", report) is action
    assert len(study.failures) == (0 if action is WorkerAction.CONTINUE else 1)


def test_a_paused_attempt_is_requeued_and_not_finished(watch: Watchdog) -> None:
    study = StudyDouble(Verdict.PAUSE)
    bridge = bridge_to(study, watch)
    bridge.ask("a")
    assert bridge.receive("a", Report(measurement=measured(1))) is WorkerAction.REUSE
    assert (len(study.requeued), study.failures) == (1, [])


def test_the_death_of_a_process_is_reported_once(watch: Watchdog) -> None:
    study = StudyDouble()
    bridge = bridge_to(study, watch)
    bridge.ask("a")
    bridge.record_death("a", "exit code 3")
    bridge.record_death("a", "exit code 3")
    [(_, failure)] = study.failures
    assert failure is not None
    assert (failure.kind, failure.traceback) == (FailureKind.INFRASTRUCTURE, "exit code 3")


def test_a_process_that_ended_itself_for_silence_fails_with_a_timeout(watch: Watchdog) -> None:
    study = StudyDouble()
    bridge = bridge_to(study, watch)
    message = bridge.ask("a")
    assert message is not None
    watch.stacks.mkdir()
    watch.file(message.job.key).write_text("in re.match")
    bridge.record_death("a", "exit code 1")
    [(_, failure)] = study.failures
    assert failure is not None
    assert (failure.kind, failure.traceback) == (FailureKind.TIMEOUT, "in re.match")


def test_an_error_of_the_ledger_ends_the_run_and_does_not_raise_in_the_hook(
    watch: Watchdog,
) -> None:
    class Full(StudyDouble):
        def report(self, key: AttemptKey, measurement: Measurement) -> Verdict:
            raise OSError("no space left on device")

    study = Full()
    bridge = bridge_to(study, watch)
    bridge.ask("a")
    assert bridge.receive("a", Report(measurement=measured(1))) is WorkerAction.END
    assert isinstance(bridge.error, OSError)
    assert bridge.stopping
    assert bridge.ask("b") is None
    bridge.abandon()
    assert len(study.requeued) == 1


@pytest.mark.parametrize(
    ("node", "cpu", "gpu", "slots"),
    [
        ({"CPU": 2.0}, 1.0, 0.0, 2),
        ({"CPU": 3.0}, 2.0, 0.0, 1),
        ({"CPU": 0.3}, 0.1, 0.0, 3),
        ({"CPU": 2.0}, 1.0, 0.5, 0),
        ({"CPU": 16.0, "GPU": 1.0}, 1.0, 0.25, 4),
        ({"CPU": 16.0, "GPU": 2.0}, 1.0, 0.4, 4),
        ({"CPU": 16.0, "GPU": 5.0}, 1.0, 2.0, 2),
    ],
)
def test_the_slots_of_a_node_follow_its_cores_and_whole_gpus(
    node: dict[str, float], cpu: float, gpu: float, slots: int
) -> None:
    assert slots_of(node, cpu=cpu, gpu=gpu) == slots
