"""Check and backup of a ledger.

Unlike `Ledger.open`, the check migrates nothing. The invariants are those of docs/ledger.md, in SQL
that both databases understand.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from orchestrator.ledger.database import read_url, shown_name
from orchestrator.ledger.errors import LedgerError, LedgerUnavailableError
from orchestrator.ledger.migrations import revision
from orchestrator.ledger.schema import HEAD
from workers.redaction import redact

INVARIANTS: Mapping[str, str] = {
    "trial numbers are dense": (
        "SELECT study_id FROM trial GROUP BY study_id HAVING count(*) <> max(number) + 1"
    ),
    "a trial has an end time exactly if it has ended": (
        "SELECT uid FROM trial WHERE (ended IS NOT NULL)"
        " <> (state IN ('COMPLETE', 'PRUNED', 'FAIL'))"
    ),
    "a trial has values exactly if it is COMPLETE": (
        "SELECT uid FROM trial WHERE (values_json IS NOT NULL) <> (state = 'COMPLETE')"
    ),
    "a trial has one open attempt exactly while it is RUNNING": (
        "SELECT uid FROM trial WHERE (state = 'RUNNING') <> (1 = (SELECT count(*) FROM attempt"
        " WHERE trial_uid = uid AND attempt.ended IS NULL))"
    ),
    "a trial counts its attempts": (
        "SELECT uid FROM trial WHERE attempts <> (SELECT count(*) FROM attempt"
        " WHERE trial_uid = uid)"
    ),
    "a checkpoint belongs to a measurement": (
        "SELECT trial_uid FROM checkpoint WHERE NOT EXISTS (SELECT 1 FROM measurement"
        " WHERE measurement.trial_uid = checkpoint.trial_uid"
        " AND measurement.epoch = checkpoint.epoch)"
    ),
    "a measurement belongs to an attempt": (
        "SELECT trial_uid FROM measurement WHERE NOT EXISTS (SELECT 1 FROM attempt"
        " WHERE attempt.trial_uid = measurement.trial_uid"
        " AND attempt.number = measurement.attempt)"
    ),
    "no driver wrote after its successor": (
        "SELECT id FROM (SELECT id, generation, max(generation) OVER"
        " (PARTITION BY study_id ORDER BY id) AS newest FROM event WHERE kind <> 'promotion')"
        " AS written WHERE generation < newest"
    ),
    "every ended trial has one event trial_finished": (
        "SELECT study_id FROM study_ends WHERE events <> ended"
    ),
}
"""Invariants, each with a query for the rows that violate it."""

_STUDY_ENDS = (
    "WITH study_ends AS (SELECT study.id AS study_id,"
    " (SELECT count(*) FROM event WHERE event.study_id = study.id"
    "  AND event.kind = 'trial_finished') AS events,"
    " (SELECT count(*) FROM trial WHERE trial.study_id = study.id"
    "  AND trial.state IN ('COMPLETE', 'PRUNED', 'FAIL')) AS ended"
    " FROM study) "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCheck:
    """Result of the check of a ledger."""

    name: str
    """Its address, without any password."""
    revision: str | None
    """Revision of its schema; None without our tables."""
    newest: str
    """Newest revision that this release knows."""
    problems: tuple[str, ...]
    """Problems, one line each."""


def check(url: str) -> LedgerCheck:
    """Check a ledger's revision, file and invariants, without any change.

    Raises:
        LedgerError: It cannot be read.
    """
    engine, name = _engine(url)
    with (
        _named_errors(name, partial(redact, addresses=(url,))),
        contextlib.closing(_Disposing(engine)),
        engine.connect() as connection,
    ):
        found = revision(connection)
        problems = list(_file_problems(connection)) if engine.dialect.name == "sqlite" else []
        if found is None:
            problems.append("it has no tables of a ledger")
        elif found == HEAD:
            problems += _violations(connection)
    return LedgerCheck(name=name, revision=found, newest=HEAD, problems=tuple(problems))


def back_up(url: str, target: Path) -> int:
    """Copy an SQLite ledger, which may be in use; the copy gets its name once it is complete.

    Returns:
        Its size in bytes.

    Raises:
        LedgerError: It is not SQLite, the target exists, or the copy failed.
    """
    read = read_url(url)
    if read.get_backend_name() != "sqlite":
        raise LedgerError("a ledger on PostgreSQL is backed up by its own tool: pg_dump")
    if target.exists():
        raise LedgerError(f"{target} exists, and a backup replaces no file; give another name")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _copy(Path(str(read.database)), unfinished)
        os.link(unfinished, target)  # unlike a rename, it replaces no file
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailableError(f"{target}: no backup was made: {error}") from None
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    return target.stat().st_size


def _copy(source: Path, unfinished: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as original,
        contextlib.closing(sqlite3.connect(unfinished)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a write-ahead log
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {verdict}")
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())


def _file_problems(connection: Connection) -> Iterator[str]:
    for (verdict,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if verdict != "ok":
            yield f"integrity: {verdict}"
    for table, row, other, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} refers to no row of {other}"


def _violations(connection: Connection) -> Iterator[str]:
    for invariant, query in INVARIANTS.items():
        prefix = _STUDY_ENDS if "study_ends" in query else ""
        found = [str(row[0]) for row in connection.execute(text(prefix + query))]
        if found:
            yield f"violated: {invariant}: {', '.join(found[:5])}{' ...' if found[5:] else ''}"


def _engine(url: str) -> tuple[Engine, str]:
    read = read_url(url)
    name = shown_name(read)
    if read.get_backend_name() != "sqlite":
        return create_engine(read, hide_parameters=True), name
    path = Path(str(read.database)).absolute()
    if not path.is_file():
        raise LedgerUnavailableError(f"there is no ledger at {path}")
    address = f"{path.as_uri()}?mode=ro"
    return (
        create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True)),
        name,
    )


@dataclass(frozen=True, slots=True)
class _Disposing:
    """Disposes of an engine on close."""

    engine: Engine

    def close(self) -> None:
        self.engine.dispose()


@contextlib.contextmanager
def _named_errors(name: str, redact: Callable[[str], str]) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        said = redact(str(error.orig))
        raise LedgerUnavailableError(f"ledger {name} cannot be read: {said}") from None
