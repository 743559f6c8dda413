"""Nothing acknowledged is lost: not by kill -9 of the writer, not by a lost connection."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.ledger import Holder, Lease, Ledger, LedgerUnavailableError
from workers.measurement import Measurement

_WRITER = """
import itertools, sys, uuid
from pathlib import Path
from orchestrator.ledger import Holder, Ledger
from orchestrator.trial import Trial
from workers.measurement import CheckpointRef, Measurement
ledger = Ledger.open(Path(sys.argv[1]))
study, lease = ledger.open_study(name="s", config_json="{}", holder=Holder.of_this_process())
number = len(ledger.trials(study.id))
trial = ledger.add_trial(lease, Trial(number=number, uid=uuid.uuid4().hex, params={},
    distributions={}, candidate={}, digest="", seed=0))
key = ledger.start_attempt(lease, trial.uid)
for epoch in itertools.count(1):
    kept = CheckpointRef(path="p", manifest_sha256="m", bytes=1)
    ledger.record(lease, key, Measurement(fidelity=epoch, metrics={"a": 1.0}, elapsed_s=1.0,
        checkpoint=kept))
    print(number, epoch, flush=True)
"""


def test_kill_9_of_a_writer_loses_no_acknowledged_measurement(
    tmp_path: Path, child_environment: dict[str, str]
) -> None:
    path = tmp_path / "ledger.db"
    acknowledged: dict[int, int] = {}
    for turn in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)],
            env=child_environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(12)]
        time.sleep(0.003 * turn)
        writer.kill()
        for line in (*lines, *writer.stdout.read().splitlines()):
            if line.count(" ") == 1:
                number, epoch = map(int, line.split())
                acknowledged[number] = epoch
        writer.wait()
        writer.stdout.close()
    with Ledger.open(path) as ledger:
        study, _ = ledger.open_study(name="s", config_json=None, holder=Holder.of_this_process())
        trials = ledger.trials(study.id)
        assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
        assert {trial.state for trial in trials} == {"WAITING"}
        for trial in trials:
            kept = [m.fidelity for m in trial.measurements]
            # One more than acknowledged may have been committed as the kill came.
            assert len(kept) >= acknowledged[trial.number] > 0
            assert kept == list(range(1, len(kept) + 1))
            assert len(ledger.checkpoints(trial.uid)) == len(kept)
    assert sum(acknowledged.values()) > 50


on_postgresql = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


@on_postgresql
def test_a_cut_connection_is_replaced_for_reads_and_writes(
    scene: Any, measure: Callable[..., Measurement]
) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    scene.ledger.trials(row.id)
    _cut_all(scene.url)
    assert scene.ledger.record(lease, key, measure(1))
    _cut_all(scene.url)
    assert len(scene.ledger.trial(row.id, 0).measurements) == 1


@on_postgresql
@pytest.mark.parametrize("arrived", [True, False])
def test_a_commit_whose_answer_was_lost_takes_effect_once(
    scene: Any, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    row, lease = scene.open()
    _lose_next_answer(scene, monkeypatch, arrived=arrived)
    scene.ledger.add_spent(lease, 1.0)
    assert scene.ledger.study(scene.name).spent_s == 1.0
    _lose_next_answer(scene, monkeypatch, arrived=arrived)
    added = scene.add(lease)
    assert scene.ledger.trials(row.id) == [added]
    assert scene.kinds(row.id)[-2:] == ["study_spent", "trial_added"]


@on_postgresql
def test_a_server_that_does_not_return_is_reported_not_waited_for(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lease = scene.open()

    def gone(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError("connection refused")

    _cut_all(scene.url)
    monkeypatch.setattr(scene.ledger._database._engine.dialect, "connect", gone)
    with pytest.raises(LedgerUnavailableError, match="connection refused"):
        scene.ledger.add_spent(lease, 1.0)
    monkeypatch.undo()
    scene.ledger.add_spent(lease, 2.0)
    assert scene.ledger.study(scene.name).spent_s == 2.0


def test_a_full_disk_is_named_with_path_and_free_bytes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        given = {"config_json": "{}", "holder": Holder.of_this_process()}
        _, lease = ledger.open_study(name="s", **given)
        pages = ledger._database._writer.exec_driver_sql("PRAGMA page_count").scalar()
        ledger._database._writer.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        ledger._database._writer.rollback()
        with pytest.raises(LedgerUnavailableError, match=rf"disk of {path} is full \(\d+ bytes"):
            _fill(ledger, lease)
        spent = ledger.study("s").spent_s
        ledger._database._writer.exec_driver_sql("PRAGMA max_page_count = 100000")
        ledger._database._writer.rollback()
        ledger.add_spent(lease, 1.0)
        assert ledger.study("s").spent_s == spent + 1.0


def _fill(ledger: Ledger, lease: Lease) -> None:
    for _ in range(1000):
        ledger.add_spent(lease, 1.0)


def _lose_next_answer(scene: Any, monkeypatch: pytest.MonkeyPatch, *, arrived: bool) -> None:
    dialect = scene.ledger._database._engine.dialect
    commit = dialect.do_commit

    def cut(connection: Any) -> None:
        monkeypatch.undo()
        if arrived:
            commit(connection)
        connection.dbapi_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", cut)


def _cut_all(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
