"""A user stops single trials, and pauses a running study."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.studies import Dying, Killed, config, curve, opened, run, story

from orchestrator.ledger import Ledger
from orchestrator.snapshot import Verdict
from orchestrator.study.driver import StudyDriver
from orchestrator.study.requests.pause import PAUSE
from orchestrator.study.requests.stop import STOP
from orchestrator.trial import TrialState
from workers.job import TrainingJob
from workers.measurement import Measurement, Progress

STUDY = config(stop={"trials": 4}, sampler={"name": "random"}, pruner={"name": "none"})


def request(folder: Path, kind: str, **payload: Any) -> int:
    with Ledger.open(folder / "ledger.db") as ledger:
        return ledger.add_request(1, kind, payload)


def answer(folder: Path, asked: int) -> Any:
    with Ledger.open(folder / "ledger.db") as ledger:
        return ledger.read_answer(asked)


def measured(epoch: int) -> Measurement:
    return Measurement(fidelity=epoch, metrics={"val_accuracy": 0.5}, elapsed_s=1.0)


def test_a_running_trial_ends_at_once_and_its_worker_may_report_no_more(tmp_path: Path) -> None:
    with opened(tmp_path, STUDY) as study:
        job, other = study.ask(), study.ask()
        assert job is not None
        assert other is not None
        study.report(job.key, measured(1))
        asked = request(tmp_path, STOP, trial=0)
        study._answer_requests()
        assert answer(tmp_path, asked) == {"trial": 0, "was": "running", "epoch": 1}
        assert [study.check(each.key) for each in (job, other)] == [Verdict.STOP, Verdict.CONTINUE]
        assert study.report(job.key, measured(2)) is Verdict.STOP
        study.tell(job.key)
        stopped = study.trials[0]
        assert (stopped.state, stopped.reason) == (TrialState.PRUNED, "operator")
        assert stopped.reached == 1


@pytest.mark.parametrize("trial", [0, 1])
def test_a_trial_that_has_ended_or_does_not_exist_is_refused(tmp_path: Path, trial: int) -> None:
    with opened(tmp_path, STUDY) as study:
        job = study.ask()
        assert job is not None
        for epoch in range(1, 10):
            study.report(job.key, measured(epoch))
        study.tell(job.key)
        asked = request(tmp_path, STOP, trial=trial)
        study._answer_requests()
    reason = "trial 0 has ended (COMPLETE)" if trial == 0 else "there is no trial 1. Trials: 0 to 0"
    assert answer(tmp_path, asked) == {"refused": reason}


def test_a_waiting_trial_never_starts(tmp_path: Path) -> None:
    with opened(tmp_path, STUDY) as study:
        assert study.ask()
    request(tmp_path, STOP, trial=0)
    with opened(tmp_path, STUDY) as study:
        run(study)
        first, *others = study.trials
        assert (first.reason, first.attempts) == ("operator", 1)
        assert [trial.state for trial in others] == [TrialState.COMPLETE] * 3


def test_a_worker_leaves_between_batches(tmp_path: Path) -> None:
    """The in-process engine asks at each Progress."""
    seen: list[int] = []

    def worker(job: TrainingJob, dataset: Any) -> Iterator[Measurement | Progress]:
        for epoch in curve(job, dataset):
            yield epoch
            seen.append(job.trial_number)
            if job.trial_number == 1 and epoch.fidelity == 2:
                request(tmp_path, STOP, trial=1)
                study._answer_requests()
                yield Progress()
                seen.append(-1)

    with opened(tmp_path, STUDY) as study:
        run(study, worker)
        assert -1 not in seen
        assert [trial.reached for trial in study.trials] == [9, 2, 9, 9]
        assert study.finished


def stop_first_trial(folder: Path, **parts: Any) -> None:
    with opened(folder, STUDY, **parts) as study:
        assert study.ask()
        request(folder, STOP, trial=0)
        study._answer_requests()


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_driver_killed_as_it_stops_a_trial_stops_it_once(
    tmp_path: Path, acknowledged: bool
) -> None:
    dying = partial(Dying, after=1, acknowledged=acknowledged, writes={"carry_out"})
    with pytest.raises(Killed):
        stop_first_trial(tmp_path, through=dying)
    with opened(tmp_path, STUDY) as study:
        run(study)
        assert [trial.reason for trial in study.trials] == ["operator", None, None, None]


def paused(study: StudyDriver, folder: Path) -> int:
    asked = request(folder, PAUSE, driver=str(study._lease.holder))
    study._answer_requests()
    return asked


def test_a_paused_study_stops_as_after_a_signal_and_continues_equally(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    with opened(tmp_path / "whole", STUDY) as study:
        run(study)
        whole = story(study)

    def worker(job: TrainingJob, dataset: Any) -> Iterator[Measurement | Progress]:
        for epoch in curve(job, dataset):
            yield epoch
            if job.trial_number == 2 and epoch.fidelity == 3:
                asks.append(paused(study, tmp_path))

    asks: list[int] = []
    with opened(tmp_path, STUDY) as study:
        run(study, worker)
        assert study.stop_reason == PAUSE
        assert answer(tmp_path, asks[0]) is None
    assert answer(tmp_path, asks[0]) == {"paused": True}
    with opened(tmp_path, STUDY) as study:
        assert study.trials[2].state is TrialState.WAITING
        run(study)
        assert story(study) == whole


def test_a_pause_of_a_driver_that_has_died_does_not_stop_the_next_one(tmp_path: Path) -> None:
    with opened(tmp_path, STUDY):
        pass
    asked = request(tmp_path, PAUSE, driver="another/1/never/boot")
    with opened(tmp_path, STUDY) as study:
        run(study)
        assert study.finished
        assert study.stop_reason is None
    assert answer(tmp_path, asked) == {"paused": False}
