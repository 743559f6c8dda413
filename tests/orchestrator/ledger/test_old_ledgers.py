"""Ledgers of an older release: they open unchanged, and their studies resume to the end."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.old_home import unpack_old_home

from orchestrator.cli import main
from orchestrator.ledger import Ledger
from orchestrator.trial import Trial

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # of mlflow 3.17.2


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return unpack_old_home(tmp_path)


def _tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows by table, in order."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}
    return {name: sorted(map(dict, found), key=repr) for name, found in rows.items()}


def _trials(home: Path, study: str) -> list[Trial]:
    with Ledger.open(home / "ledger.db") as ledger:
        row = ledger.study(study)
        assert row is not None
        return ledger.trials(row.id)


def test_an_old_ledger_is_migrated_without_loss(home: Path) -> None:
    before = _tables(home / "ledger.db")
    Ledger.open(home / "ledger.db").close()
    after = _tables(home / "ledger.db")
    for study in after["study"]:
        if study["name"] == "pupils":
            assert study["teacher_sha256"] == "e7cc017b027b5222"
            study["space_version"] += f"+teacher.{study['teacher_sha256']}"
    for name in before.keys() - {"archscout_version"}:
        kept = [
            {key: row[key] for key in old}
            for old, row in zip(before[name], after[name], strict=True)
        ]
        assert kept == before[name]
    assert {trial.state for trial in _trials(home, "surrogate")} == {
        "COMPLETE",
        "PRUNED",
        "RUNNING",
    }
    assert {trial.state for trial in _trials(home, "pupils")} == {"COMPLETE", "WAITING"}


@pytest.mark.mlflow
@pytest.mark.slow
def test_a_killed_search_of_an_old_ledger_ends_like_an_uninterrupted_one(
    home: Path, tmp_path: Path
) -> None:
    before = _trials(home, "surrogate")
    assert main(["--home", str(home), "--quiet", "resume", "surrogate"]) == 0
    after = _trials(home, "surrogate")
    assert after[: len(before) - 1] == before[:-1]
    expected = json.loads((tmp_path / "surrogate.json").read_text())
    assert [
        {
            "digest": trial.digest,
            "state": trial.state,
            "reason": trial.reason,
            "values": None if trial.values is None else list(trial.values),
            "reached": trial.reached,
        }
        for trial in after
    ] == expected
