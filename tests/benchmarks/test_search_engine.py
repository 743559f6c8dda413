"""The simulated engine keeps the contract of engines, and time passes as the workers claim."""

from collections.abc import Iterator

import pytest

from benchmarks.search.engine import SimulatedClock, SimulatedEngine
from orchestrator.engines import Engine
from orchestrator.snapshot import Verdict
from orchestrator.testing import EngineContract
from workers.budget import Budget
from workers.data import DataSpec
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.run_job import run_job


class TestTheSimulatedEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return SimulatedEngine(run_job, SimulatedClock(), workers=2)


class Study:
    """Double of a driver: hands out jobs, and answers measurements with a verdict."""

    def __init__(self, clock: SimulatedClock, *starts: str, pauses: dict[str, int]) -> None:
        self.clock = clock
        self.waiting = list(starts)
        self.pauses = pauses
        self.attempts: dict[str, int] = {}
        self.log: list[tuple[float, str, int, float]] = []

    def ask(self) -> TrainingJob | None:
        if not self.waiting:
            return None
        uid = self.waiting.pop(0)
        self.attempts[uid] = self.attempts.get(uid, 0) + 1
        return TrainingJob(
            key=AttemptKey(trial_uid=uid, number=self.attempts[uid], fence="f"),
            trial_number=0,
            candidate={},
            data=DataSpec(),
            budget=Budget(maximum=3),
            seed=0,
        )

    def report(self, key: AttemptKey, seen: Measurement) -> Verdict:
        self.log.append((self.clock.now(), key.trial_uid, seen.fidelity, seen.elapsed_s))
        if self.pauses.get(key.trial_uid) == seen.fidelity:
            return Verdict.PAUSE
        return Verdict.CONTINUE

    def tell(self, key: AttemptKey, failure: object = None) -> None:
        self.log.append((self.clock.now(), key.trial_uid, -1, 0.0))

    def requeue(self, key: AttemptKey) -> None:
        if key.trial_uid in self.pauses and key.number == 1:
            self.waiting.append(key.trial_uid)


def worker(job: TrainingJob, dataset: object) -> Iterator[Measurement]:
    """Take one second an epoch for `quick`, two for others."""
    pace = 1.0 if job.key.trial_uid == "quick" else 2.0
    for epoch in (1, 2, 3):
        yield Measurement(fidelity=epoch, metrics={}, elapsed_s=pace * epoch)


def run(*starts: str, workers: int, **pauses: int) -> list[tuple[float, str, int, float]]:
    clock = SimulatedClock()
    study = Study(clock, *starts, pauses=pauses)
    SimulatedEngine(worker, clock, workers=workers).run(study, None)  # type: ignore[arg-type]
    return study.log


def test_attempts_interleave_in_simulated_time() -> None:
    log = run("slow", "quick", workers=2)

    assert [(at, uid, epoch) for at, uid, epoch, _ in log] == [
        (1.0, "quick", 1),
        (2.0, "slow", 1),  # started first, so it comes first at the same time
        (2.0, "quick", 2),
        (3.0, "quick", 3),
        (3.0, "quick", -1),
        (4.0, "slow", 2),
        (6.0, "slow", 3),
        (6.0, "slow", -1),
    ]


def test_a_free_worker_starts_the_next_trial_at_once() -> None:
    log = run("quick", "slow", workers=1)

    assert [at for at, uid, _, _ in log if uid == "slow"] == [5.0, 7.0, 9.0, 9.0]


def test_a_paused_trial_continues_from_its_fidelity() -> None:
    log = run("slow", "quick", workers=1, slow=2)

    assert [each for each in log if each[1] == "slow"] == [
        (2.0, "slow", 1, 2.0),
        (4.0, "slow", 2, 4.0),
        (9.0, "slow", 3, 2.0),  # 4 s of training before the pause, 3 s of another trial
        (9.0, "slow", -1, 0.0),
    ]
