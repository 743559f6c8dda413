"""Requests are carried out exactly once, by a driver or by a command without one."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.studies import COMMAND_WRITES, Dying, Killed, config, opened, run

from orchestrator.commands.steer import requesting
from orchestrator.ledger import Ledger
from orchestrator.study.requests.retry import RETRY
from orchestrator.trial import TrialState
from workers.failures import Failure, FailureKind

FAILING = config(stop={"trials": 2}, pruner={"name": "none"})
CLASS = {"class": "user_code"}


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    """A finished study with two failed trials."""
    with opened(tmp_path, FAILING) as study:
        while job := study.ask():
            study.tell(job.key, Failure.without_traceback(FailureKind.USER_CODE, "no"))
        study._ledger.set_study_state(study._lease, "finished")
    return tmp_path


def submitted(folder: Path, after: int = 0, *, acknowledged: bool = True) -> bool:
    """Submit a request as a command does; False if it is killed at its n-th write."""
    with Ledger.open(folder / "ledger.db") as ledger:
        dying: Any = ledger
        if after:
            dying = Dying(ledger, after=after, acknowledged=acknowledged, writes=COMMAND_WRITES)
        row = ledger.study("small")
        assert row is not None
        try:
            requesting.submit(dying, row, RETRY, CLASS)
        except Killed:
            return False
    return True


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_command_killed_at_any_write_and_given_again_takes_effect_once(
    failed: Path, after: int, acknowledged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.ledger.leases.Holder.is_gone", lambda _: True)
    assert not submitted(failed, after, acknowledged=acknowledged)
    assert submitted(failed)
    assert kinds(failed) == ["search", "search", "retry", "retry"]
    with Ledger.open(failed / "ledger.db") as ledger:
        row = ledger.study("small")
        assert row is not None
        assert row.state == "interrupted"
        assert ledger.requests(row.id) == []


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_driver_killed_as_it_answers_takes_effect_once(failed: Path, acknowledged: bool) -> None:
    with Ledger.open(failed / "ledger.db") as ledger:
        ledger.add_request(1, RETRY, CLASS)

    dying = partial(Dying, after=1, acknowledged=acknowledged, writes={"carry_out"})
    with pytest.raises(Killed), opened(failed, FAILING, through=dying):
        pass
    with opened(failed, FAILING) as study:
        run(study)
        retried = study.trials[2:]
    assert [trial.state for trial in retried] == [TrialState.COMPLETE] * 2
    assert kinds(failed) == ["search", "search", "retry", "retry"]


def test_a_driver_at_its_end_leaves_a_request_to_the_command(failed: Path) -> None:
    with opened(failed, FAILING, alive=True) as study:
        assert study.seal()
        with Ledger.open(failed / "ledger.db") as ledger:
            ledger.add_request(1, RETRY, CLASS)
        study._answer_requests()
        assert kinds(failed) == ["search", "search"]
    assert submitted(failed)
    assert kinds(failed) == ["search", "search", "retry", "retry"]


def test_a_driver_that_a_request_has_given_more_to_run_does_not_end(failed: Path) -> None:
    with opened(failed, FAILING, alive=True) as study:
        assert study.finished
        with Ledger.open(failed / "ledger.db") as ledger:
            ledger.add_request(1, RETRY, CLASS)
        study._answer_requests()
        assert not study.seal()
        run(study)
        assert study.seal()


def test_a_command_waits_for_the_driver_which_answers_within_a_second(failed: Path) -> None:
    with opened(failed, FAILING, alive=True) as study:
        asking = threading.Thread(target=submitted, args=(failed,))
        asking.start()
        asking.join(30)
        assert not asking.is_alive()
        assert [trial.kind for trial in study.trials[2:]] == ["retry", "retry"]


def kinds(folder: Path) -> list[str]:
    with Ledger.open(folder / "ledger.db") as ledger:
        return [trial.kind for trial in ledger.trials(1)]
