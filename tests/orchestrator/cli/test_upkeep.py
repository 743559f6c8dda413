"""The commands `retry` and `db`."""

import json
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.studies import config, curve, opened, run

import orchestrator.commands.steer.requesting
import orchestrator.study.driver
from orchestrator.cli import main
from orchestrator.ledger import Ledger
from orchestrator.ledger.maintenance import INVARIANTS, back_up, check
from orchestrator.trial import TrialState
from workers.failures import Failure, FailureKind

MANY = config(stop={"trials": 4}, pruner={"name": "none"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with four trials, two of them out of memory."""
    folder = tmp_path_factory.mktemp("finished")
    with opened(folder, MANY) as study:
        while job := study.ask():
            if study.trials[-1].number % 2:
                for _ in range(2):
                    failure = Failure.without_traceback(FailureKind.OUT_OF_MEMORY, "too large")
                    study.tell(job.key, failure)
                    again = study.ask() if study.trials[-1].state is TrialState.WAITING else None
                    job = again or job
            else:
                for seen in curve(job, None):
                    study.report(job.key, seen)
                study.tell(job.key)
        study._ledger.set_study_state(study._lease, "finished")
    return folder


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(finished, tmp_path, dirs_exist_ok=True)


def command(home: Path, *words: str) -> int:
    return main(["--home", str(home), *words])


def retry(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    assert command(home, "--json", "retry", "small", "--class", "out_of_memory") == 0
    return json.loads(capsys.readouterr().out)["retries"]


class TestRetry:
    def test_a_retry_adds_one_trial_for_each_failed_one_and_none_at_a_second_time(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert retry(home, capsys) == [{"number": 4, "parent": 1}, {"number": 5, "parent": 3}]
        assert retry(home, capsys) == []

    def test_a_retry_is_run_by_the_next_driver_and_not_counted(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        retry(home, capsys)
        with opened(home, MANY) as study:
            before = study.trials[1]
            run(study)
            trials = study.trials
        assert [trial.kind for trial in trials] == ["search"] * 4 + ["retry"] * 2
        assert [trial.state for trial in trials[4:]] == [TrialState.COMPLETE] * 2
        assert trials[1] == before
        assert (trials[4].parent, trials[4].digest) == (before.uid, before.digest)
        assert trials[4].params == before.params
        assert trials[4].seed != before.seed

    def test_a_retry_makes_a_finished_study_resumable(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        retry(home, capsys)
        with Ledger.open(home / "ledger.db") as ledger:
            row = ledger.study("small")
        assert row is not None
        assert row.state == "interrupted"

    def test_the_driver_of_a_running_study_starts_the_retry(
        self, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(orchestrator.study.driver, "_POLL_INTERVAL_S", 0.05)
        with opened(home, MANY, alive=True) as study:
            assert study.finished
            assert retry(home, capsys) == [{"number": 4, "parent": 1}, {"number": 5, "parent": 3}]
            assert not study.finished
            assert retry(home, capsys) == []
            run(study)
            assert [t.state for t in study.trials[4:]] == [TrialState.COMPLETE] * 2
        with Ledger.open(home / "ledger.db") as ledger:
            assert ledger.requests(1) == []

    def test_an_unanswered_request_waits_for_the_next_driver(
        self, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(orchestrator.commands.steer.requesting, "_TIMEOUT_S", 0.1)
        with opened(home, MANY, alive=True):
            for _ in range(2):  # asked twice, it is one request
                assert command(home, "retry", "small", "--class", "out_of_memory") == 0
        assert "will answer later" in capsys.readouterr().out
        with Ledger.open(home / "ledger.db") as ledger:
            assert len(ledger.requests(1)) == 1
        with opened(home, MANY) as study:
            assert [trial.kind for trial in study.trials[4:]] == ["retry"] * 2
            assert not study.finished

    def test_of_an_unknown_class_names_the_nearest(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command(home, "retry", "small", "--class", "out_of_memry") == 2
        assert "Did you mean 'out_of_memory'?" in capsys.readouterr().err


class TestDb:
    def test_check_finds_no_problem_in_an_intact_ledger(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command(home, "--json", "db", "check") == 0
        assert json.loads(capsys.readouterr().out)["problems"] == []

    def test_upgrade_of_the_newest_changes_nothing(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command(home, "db", "upgrade") == 0
        assert "is already at revision" in capsys.readouterr().out

    def test_without_a_ledger_is_a_mistake_and_makes_none(self, tmp_path: Path) -> None:
        assert command(tmp_path / "none", "db", "check") == 2
        assert not (tmp_path / "none").exists()

    def test_a_backup_is_complete_and_private_and_overwrites_nothing(
        self, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = tmp_path / "copy.db"
        with Ledger.open(home / "ledger.db"):  # in use, its newest commits in the WAL
            assert command(home, "db", "backup", str(copy)) == 0
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert check(f"sqlite:///{copy}").problems == ()
        with Ledger.open(copy) as kept, Ledger.open(home / "ledger.db") as original:
            assert kept.trials(1) == original.trials(1)
        assert command(home, "db", "backup", str(copy)) == 2
        assert "replaces no file" in capsys.readouterr().err
        assert not list(tmp_path.glob(".copy.db*"))

    def test_backup_of_postgresql_names_its_own_tool(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match="pg_dump"):
            back_up("postgresql://unknown@localhost/none", tmp_path / "copy.db")


BREAKING = {
    "trial numbers are dense": "UPDATE trial SET number = 99 WHERE number = 3",
    "a trial has an end time exactly if it has ended": (
        "UPDATE trial SET ended = NULL WHERE number = 0"
    ),
    "a trial has values exactly if it is COMPLETE": (
        "UPDATE trial SET values_json = '[1]' WHERE number = 1"
    ),
    "a trial has one open attempt exactly while it is RUNNING": (
        "UPDATE attempt SET ended = NULL WHERE trial_uid ="
        " (SELECT uid FROM trial WHERE attempts = 1 LIMIT 1)"
    ),
    "a trial counts its attempts": "UPDATE trial SET attempts = 7 WHERE number = 0",
    "a checkpoint belongs to a measurement": (
        "INSERT INTO checkpoint SELECT uid, 77, 'x', 'x', 1 FROM trial WHERE number = 0"
    ),
    "a measurement belongs to an attempt": (
        "INSERT INTO measurement SELECT uid, 77, 88, '{}', 1, 1 FROM trial WHERE number = 0"
    ),
    "no driver wrote after its successor": (
        "UPDATE event SET generation = 9 WHERE id = (SELECT min(id) FROM event)"
    ),
    "every ended trial has one event trial_finished": (
        "INSERT INTO event SELECT NULL, study_id, kind, payload_json, recorded, generation, 'x'"
        " FROM event WHERE kind = 'trial_finished' LIMIT 1"
    ),
}


@pytest.mark.parametrize("promise", sorted(INVARIANTS))
def test_check_finds_each_broken_invariant(
    promise: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute(BREAKING[promise])
        connection.commit()
    assert command(home, "db", "check") == 3
    assert f"violated: {promise}" in capsys.readouterr().out
