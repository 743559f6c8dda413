"""Contract of engines, run for each of them."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.studies import config, opened

from orchestrator.config.schema import StudyConfig
from orchestrator.engines import Engine
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.ledger import Ledger
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import TrialState
from search_spaces.space import DefineByRunSpace
from workers.data import Dataset, DataSpec, load

TRAIN = '''
import time


def train(decisions, context):
    """Rises with the rate; misbehaves as the decisions say."""
    for epoch in range(1, context.epochs + 1):
        time.sleep(decisions.get("pause", 0.0))
        if decisions["kind"] == "raises":
            raise ValueError("shapes differ")
        value = float("nan") if decisions["kind"] == "diverges" else decisions["rate"]
        yield {"val_accuracy": value * epoch / context.epochs}
'''


def space(*kinds: str, pause: float = 0.0) -> DefineByRunSpace:
    def asked(trial: Any) -> dict[str, Any]:
        return {
            "kind": trial.suggest_categorical("kind", list(kinds)),
            "rate": trial.suggest_float("rate", 0.0, 1.0),
            "pause": pause,
        }

    return DefineByRunSpace(name="asked", version="1", function=asked)


@pytest.fixture(
    scope="module", params=["in_process", pytest.param("ray_tune", marks=pytest.mark.ray)]
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made: Engine
    if request.param == "ray_tune":
        from orchestrator.engines.ray_tune import RayTuneEngine

        made = RayTuneEngine(ray_options={"num_cpus": 2})
    else:
        made = InProcessEngine()
    yield made
    made.close()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load(DataSpec(source="surrogate"))


@pytest.fixture
def asked(tmp_path: Path) -> StudyConfig:
    (tmp_path / "mine.py").write_text(TRAIN)
    return config(train=f"{tmp_path / 'mine.py'}:train", stop={"trials": 8})


def events(folder: Path) -> Counter[str]:
    with Ledger.open(folder / "ledger.db") as ledger:
        row = ledger.study("small")
        assert row is not None
        return Counter(event.kind for event in ledger.events(row.id, 0, 10_000))


def test_a_study_runs_to_its_end(
    engine: Engine, data: Dataset, asked: StudyConfig, tmp_path: Path
) -> None:
    with opened(tmp_path, asked, space=space("good")) as study:
        engine.run(study, data)
        assert study.finished
        assert study.abort_reason is None
        assert [t.number for t in study.trials] == list(range(8))
        assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert study.trials[0].state is TrialState.COMPLETE


def test_every_attempt_is_finished_once(
    engine: Engine, data: Dataset, asked: StudyConfig, tmp_path: Path
) -> None:
    with opened(tmp_path, asked, space=space("good", "raises", "diverges")) as study:
        engine.run(study, data)
        assert all(t.state.is_terminal for t in study.trials)
        trials = len(study.trials)
    counts = events(tmp_path)
    assert counts["trial_finished"] == counts["attempt_started"] == trials


def test_a_failing_trial_changes_no_other(
    engine: Engine, data: Dataset, asked: StudyConfig, tmp_path: Path
) -> None:
    with opened(tmp_path, asked, space=space("good", "raises")) as study:
        engine.run(study, data)
        for trial in study.trials:
            bad = trial.params["kind"] == "raises"
            assert not bad or trial.reason == "user_code"
            assert bad or trial.state in {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_failure_keeps_its_traceback(
    engine: Engine, data: Dataset, asked: StudyConfig, tmp_path: Path
) -> None:
    with opened(tmp_path, asked, space=space("raises")) as study:
        engine.run(study, data)
        assert study.abort_reason is not None
        assert "shapes differ" in study.abort_reason
        failure = study.trials[0].failure or {}
        assert "mine.py" in failure["traceback"]


def test_a_diverged_trial_ends_as_such(
    engine: Engine, data: Dataset, asked: StudyConfig, tmp_path: Path
) -> None:
    with opened(tmp_path, asked, space=space("diverges")) as study:
        engine.run(study, data)
        assert {(t.state, t.reason) for t in study.trials} == {(TrialState.PRUNED, "diverged")}


def test_a_stopped_trial_is_measured_no_further(
    engine: Engine, data: Dataset, asked: StudyConfig, tmp_path: Path
) -> None:
    with opened(tmp_path, asked, space=space("good")) as study:
        engine.run(study, data)
        stopped = [t for t in study.trials if t.reason == "rung"]
        assert stopped
        assert {t.measurements[-1].fidelity for t in stopped} <= {1, 3}


def stop_after(study: StudyDriver, epochs: int) -> None:
    while study.snapshot().epochs < epochs:
        time.sleep(0.01)
    study.request_stop("signal")


def test_a_stopping_study_is_left_resumable_and_then_ends(
    engine: Engine, data: Dataset, asked: StudyConfig, tmp_path: Path
) -> None:
    slow = space("good", pause=0.03)
    with opened(tmp_path, asked, space=slow) as study:
        signal = threading.Thread(target=stop_after, args=(study, 4))
        signal.start()
        engine.run(study, data)
        signal.join()
        states = {t.state for t in study.trials}
        assert TrialState.WAITING in states
        assert TrialState.RUNNING not in states
    with opened(tmp_path, asked, space=slow) as study:
        engine.run(study, data)
        assert study.finished
        assert len(study.trials) == 8
        assert all(t.state.is_terminal for t in study.trials)


def test_an_ended_study_runs_nothing(
    engine: Engine, data: Dataset, asked: StudyConfig, tmp_path: Path
) -> None:
    for _ in range(2):
        with opened(tmp_path, asked, space=space("good")) as study:
            engine.run(study, data)
    assert events(tmp_path)["attempt_started"] == 8
