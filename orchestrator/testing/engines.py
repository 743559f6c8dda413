"""Contract of engines: guarantees of every engine to a study."""

import threading
import time
from pathlib import Path

import pytest

from orchestrator.engines import Engine
from orchestrator.snapshot import Verdict
from orchestrator.study.driver import StudyDriver
from orchestrator.testing.studies import event_counts, open_study, request_stop, space
from orchestrator.trial import OPERATOR, TrialState
from workers.data import DataSpec, load
from workers.data.dataset import Dataset
from workers.job import AttemptKey
from workers.measurement import Measurement

TRIALS = 8


class EngineContract:
    """Tests of an engine; a subclass gives the fixture `engine`.

    The training code of the study is the user's own (`train: file.py:name`), so that an engine that
    starts processes is tested across them.
    """

    @pytest.fixture
    def engine(self) -> Engine:
        """The engine under test."""
        raise NotImplementedError("give a fixture `engine`")

    @pytest.fixture
    def data(self) -> Dataset:
        """The data set of the study."""
        return load(DataSpec(source="surrogate"))

    def test_a_study_runs_to_its_limit(self, engine: Engine, data: Dataset, tmp_path: Path) -> None:
        with open_study(tmp_path, space("good"), trials=TRIALS) as study:
            engine.run(study, data)
            assert study.finished
            assert study.abort_reason is None
            assert [t.number for t in study.trials] == list(range(TRIALS))
            assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
            assert study.trials[0].state is TrialState.COMPLETE

    def test_every_attempt_is_told_once(
        self, engine: Engine, data: Dataset, tmp_path: Path
    ) -> None:
        kinds = space("good", "raises", "diverges")
        with open_study(tmp_path, kinds, trials=TRIALS) as study:
            engine.run(study, data)
            assert all(t.state.is_terminal for t in study.trials)
            trials = len(study.trials)
            paused = sum(t.reason == "rung" for t in study.trials)  # end without an attempt
        counts = event_counts(tmp_path)
        assert counts["trial_finished"] == trials
        assert counts["attempt_started"] == trials - paused + counts["trial_given_back"]

    def test_a_failing_trial_changes_no_other(
        self, engine: Engine, data: Dataset, tmp_path: Path
    ) -> None:
        with open_study(tmp_path, space("good", "raises"), trials=TRIALS) as study:
            engine.run(study, data)
            assert {t.params["kind"] for t in study.trials} == {"good", "raises"}
            for trial in study.trials:
                failed = trial.params["kind"] == "raises"
                assert not failed or trial.reason == "user_code"
                assert failed or trial.state in {TrialState.COMPLETE, TrialState.PRUNED}

    def test_a_failure_keeps_its_traceback(
        self, engine: Engine, data: Dataset, tmp_path: Path
    ) -> None:
        with open_study(tmp_path, space("raises"), trials=TRIALS) as study:
            engine.run(study, data)
            assert study.abort_reason is not None
            assert "shapes differ" in study.abort_reason
            failure = study.trials[0].failure or {}
            assert "contract_train.py" in failure["traceback"]

    def test_a_diverged_trial_is_pruned_as_diverged(
        self, engine: Engine, data: Dataset, tmp_path: Path
    ) -> None:
        with open_study(tmp_path, space("diverges"), trials=TRIALS) as study:
            engine.run(study, data)
            assert {(t.state, t.reason) for t in study.trials} == {(TrialState.PRUNED, "diverged")}

    def test_a_pruned_trial_is_measured_no_further(
        self, engine: Engine, data: Dataset, tmp_path: Path
    ) -> None:
        with open_study(tmp_path, space("good"), trials=TRIALS) as study:
            engine.run(study, data)
            pruned = [t for t in study.trials if t.reason == "rung"]
            assert pruned
            assert {t.measurements[-1].fidelity for t in pruned} <= {1, 3}

    def test_a_stopped_study_is_resumable_and_then_finishes(
        self, engine: Engine, data: Dataset, tmp_path: Path
    ) -> None:
        slow = space("good", pause_s=0.03)
        with open_study(tmp_path, slow, trials=TRIALS) as study:
            stopper = threading.Thread(target=_stop_after, args=(study, 4))
            stopper.start()
            engine.run(study, data)
            stopper.join()
            states = {t.state for t in study.trials}
            assert TrialState.WAITING in states
            assert TrialState.RUNNING not in states
        with open_study(tmp_path, slow, trials=TRIALS) as study:
            engine.run(study, data)
            assert study.finished
            assert len(study.trials) == TRIALS
            assert all(t.state.is_terminal for t in study.trials)

    def test_a_trial_that_its_user_stops_is_measured_no_further(
        self, engine: Engine, data: Dataset, tmp_path: Path
    ) -> None:
        with open_study(tmp_path, space("good", pause_s=0.05), trials=TRIALS) as study:
            _stop_after_first_report(study, tmp_path)
            engine.run(study, data)
            (stopped,) = (t for t in study.trials if t.reason == OPERATOR)
            others = [t for t in study.trials if t is not stopped]
            assert stopped.state is TrialState.PRUNED
            assert 1 <= stopped.reached < 9
            assert len(others) == TRIALS - 1
            assert {t.reason for t in others} <= {None, "rung"}

    def test_a_finished_study_runs_nothing(
        self, engine: Engine, data: Dataset, tmp_path: Path
    ) -> None:
        for _ in range(2):
            with open_study(tmp_path, space("good"), trials=TRIALS) as study:
                engine.run(study, data)
        counts = event_counts(tmp_path)
        assert counts["attempt_started"] <= TRIALS + counts["trial_given_back"]


def _stop_after_first_report(study: StudyDriver, folder: Path) -> None:
    """Let a user stop the first trial that is measured, as `archscout stop` does."""
    report = study.report

    def report_and_stop(key: AttemptKey, measurement: Measurement) -> Verdict:
        study.report = report  # type: ignore[method-assign]
        verdict = report(key, measurement)
        request_stop(study, folder, _number(study, key))
        return verdict

    study.report = report_and_stop  # type: ignore[method-assign]


def _number(study: StudyDriver, key: AttemptKey) -> int:
    return next(trial.number for trial in study.trials if trial.uid == key.trial_uid)


def _stop_after(study: StudyDriver, epochs: int) -> None:
    while study.snapshot().epochs < epochs:
        time.sleep(0.01)
    study.request_stop("signal")
