"""Upkeep of a ledger as a whole: its revision, whether it keeps its own promises, a copy of it.

Looks without changing: unlike `Ledger.open`, a look migrates nothing. The promises are those of
docs/ledger.md, asked in SQL that both databases understand.
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
    "a trial has an end exactly when it has ended": (
        "SELECT uid FROM trial WHERE (ended IS NOT NULL)"
        " <> (state IN ('COMPLETE', 'PRUNED', 'FAIL'))"
    ),
    "a trial has values exactly when it is COMPLETE": (
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
    "nobody wrote after a younger driver had": (
        "SELECT id FROM (SELECT id, generation, max(generation) OVER"
        " (PARTITION BY study_id ORDER BY id) AS newest FROM event WHERE kind <> 'promotion')"
        " AS told WHERE generation < newest"
    ),
    "every trial was told once that it ended": (
        "SELECT study_id FROM study_ends WHERE told <> ended"
    ),
}
"""What each query finds breaks the promise that it is named by."""

_STUDY_ENDS = (
    "WITH study_ends AS (SELECT study.id AS study_id,"
    " (SELECT count(*) FROM event WHERE event.study_id = study.id"
    "  AND event.kind = 'trial_finished') AS told,"
    " (SELECT count(*) FROM trial WHERE trial.study_id = study.id"
    "  AND trial.state IN ('COMPLETE', 'PRUNED', 'FAIL')) AS ended"
    " FROM study) "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCheck:
    """What a look at a ledger found."""

    name: str
    """Where it lives, without any password."""
    revision: str | None
    """Of its schema; None for a database without our tables."""
    newest: str
    """The revision that this release knows."""
    problems: tuple[str, ...]
    """One line each; empty is good."""


def check(url: str) -> LedgerCheck:
    """Check a ledger's revision, its files and its own promises; nothing is changed.

    Raises:
        LedgerError: It cannot be reached.
    """
    engine, name = _engine(url)
    with (
        _named_errors(name, partial(redact, addresses=(url,))),
        contextlib.closing(_Disposed(engine)),
        engine.connect() as connection,
    ):
        found = revision(connection)
        problems = list(_of_file(connection)) if engine.dialect.name == "sqlite" else []
        if found is None:
            problems.append("there are no tables of a ledger")
        elif found == HEAD:
            problems += _broken(connection)
    return LedgerCheck(name=name, revision=found, newest=HEAD, problems=tuple(problems))


def back_up(url: str, target: Path) -> int:
    """Copy an SQLite ledger while it may be in use; the copy gets its name once it is whole.

    Returns:
        Its size in bytes.

    Raises:
        LedgerError: It is not SQLite, the target exists, or one of them cannot be used.
    """
    read = read_url(url)
    if read.get_backend_name() != "sqlite":
        raise LedgerError("a ledger on PostgreSQL is backed up by its own tool: pg_dump")
    if target.exists():
        raise LedgerError(f"{target} exists: a backup replaces nothing; give another name")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _copy(Path(str(read.database)), unfinished)
        os.link(unfinished, target)  # fails where a rename would replace
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailableError(f"{target}: no backup was made: {error}") from None
    finally:
        for side in ("", "-journal", "-wal", "-shm"):
            unfinished.with_name(unfinished.name + side).unlink(missing_ok=True)
    return target.stat().st_size


def _copy(source: Path, unfinished: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as original,
        contextlib.closing(sqlite3.connect(unfinished)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without side files
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {verdict}")
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())


def _of_file(connection: Connection) -> Iterator[str]:
    for (verdict,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if verdict != "ok":
            yield f"integrity: {verdict}"
    for table, row, other, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} refers to no row of {other}"


def _broken(connection: Connection) -> Iterator[str]:
    for promise, question in INVARIANTS.items():
        prefix = _STUDY_ENDS if "study_ends" in question else ""
        found = [str(row[0]) for row in connection.execute(text(prefix + question))]
        if found:
            yield f"broken: {promise}: {', '.join(found[:5])}{' ...' if found[5:] else ''}"


def _engine(url: str) -> tuple[Engine, str]:
    read = read_url(url)
    name = shown_name(read)
    if read.get_backend_name() != "sqlite":
        return create_engine(read, hide_parameters=True), name
    place = Path(str(read.database)).absolute()
    if not place.is_file():
        raise LedgerUnavailableError(f"there is no ledger at {place}")
    address = f"{place.as_uri()}?mode=ro"
    return (
        create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True)),
        name,
    )


@dataclass(frozen=True, slots=True)
class _Disposed:
    """Lets go of an engine at the end."""

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
