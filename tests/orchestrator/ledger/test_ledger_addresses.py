"""Where a ledger can live, who may look into it, and how a place is refused."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger, LedgerError, LedgerUnavailableError


def test_a_ledger_can_be_read_while_another_process_is_suspended_in_a_write(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as stopped:
        stopped.execute("BEGIN IMMEDIATE")
        with Ledger.open(path) as ledger:
            assert ledger.studies() == []


def test_opening_a_ledger_twice_in_one_process_keeps_the_locks_of_the_first(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        ledger.studies()
        before = _locks(path)
        Ledger.open(path).close()
        assert _locks(path) == before > 0


def _locks(path: Path) -> int:
    """How many locks processes hold on the file."""
    inode = f":{path.stat().st_ino} "
    return sum(inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_only_its_owner_can_read_a_sqlite_ledger(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "100% ?#.db"
    with Ledger.open(path) as ledger:
        assert [stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path.parent.parent)] == [
            0o700,
            0o700,
        ]
        files = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
        assert set(files.values()) == {0o600}
        assert f"{path.name}-wal" in files
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            with ledger._database._engine.connect() as connection:
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "in memory would be lost"),
        ("mysql://u:secret@h/d", "cannot"),
        ("no url: secret", "cannot be parsed"),
        ("sqlite:////proc/no/ledger.db", "cannot be opened"),
    ],
)
def test_an_unsupported_address_is_refused_without_its_secrets(url: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said) as caught:
        Ledger.open(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_absent_server_is_named_without_its_password() -> None:
    with pytest.raises(LedgerUnavailableError, match="did not answer") as caught:
        Ledger.open("postgresql://me:secret@127.0.0.1:1/archscout")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
