"""Our engines and a user's own keep the contract of engines; a broken one does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.engines import Engine
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.snapshot import Verdict
from orchestrator.study.driver import StudyDriver
from orchestrator.testing import EngineContract
from workers.data import Dataset, DataSpec, load
from workers.failures import Failure, UserCodeError, classify
from workers.job import TrainingJob
from workers.measurement import Measurement
from workers.run_job import run_job


class TestTheInProcessEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return InProcessEngine()


@pytest.mark.ray
class TestTheRayTuneEngine(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Iterator[Engine]:
        from orchestrator.engines.ray_tune import RayTuneEngine

        engine = RayTuneEngine(ray_options={"num_cpus": 2})
        yield engine
        engine.close()


class TwoAtATime:
    """An engine as a user would write it: two attempts, an epoch of each in turn."""

    def run(self, study: StudyDriver, dataset: Dataset) -> None:
        attempts: list[tuple[TrainingJob, Iterator[object]]] = []
        while True:
            while len(attempts) < 2 and (job := study.ask()) is not None:
                attempts.append((job, iter(run_job(job, dataset))))
            if not attempts:
                return
            attempts = [each for each in attempts if not self._step(study, *each)]

    def _step(self, study: StudyDriver, job: TrainingJob, steps: Iterator[object]) -> bool:
        """Train until the next measurement; return whether the attempt is over."""
        failure: Failure | None = None
        try:
            seen = next(steps)
        except StopIteration:
            pass
        except Exception as error:  # noqa: BLE001 - reported, whatever it is
            failure = classify(error)
        else:
            if not isinstance(seen, Measurement):
                return False
            verdict = study.report(job.key, seen)
            if verdict is Verdict.CONTINUE:
                return False
            if verdict is Verdict.PAUSE:
                study.requeue(job.key)
                return True
        study.tell(job.key, failure)
        return True

    def close(self) -> None:
        pass


class TestAnEngineOfAUser(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return TwoAtATime()


class Deaf(InProcessEngine):
    """Trains on after a trial was pruned, and swallows failures."""

    def _train(self, study: StudyDriver, job: TrainingJob, dataset: Dataset) -> None:
        try:
            for seen in run_job(job, dataset):
                if isinstance(seen, Measurement):
                    study.report(job.key, seen)
        except UserCodeError:
            pass
        study.tell(job.key, None)


def test_the_contract_catches_an_engine_that_swallows_failures(tmp_path: Path) -> None:
    data = load(DataSpec(source="surrogate"))
    with pytest.raises(AssertionError):
        EngineContract().test_a_failure_keeps_its_traceback(Deaf(), data, tmp_path)
