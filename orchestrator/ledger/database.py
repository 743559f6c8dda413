"""Transactions on SQLite and PostgreSQL: one writer and many readers.

SQLite runs in WAL mode with synchronous=FULL, and every write starts with BEGIN IMMEDIATE, because
a transaction that reads first and writes later can fail on a write in between. PostgreSQL
serializes the writers of a study by a lock on its lease row.
"""

import contextlib
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    make_url,
    select,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestrator.clock import Clock
from orchestrator.ledger import schema
from orchestrator.ledger.errors import LedgerError, LedgerUnavailableError
from orchestrator.ledger.migrations import migrate
from orchestrator.ledger.outage import Outage
from orchestrator.ledger.serialization import to_json
from orchestrator.network_filesystem import LEDGER_SERVER, refuse_network_disk
from workers.redaction import has_stray_at, redact

T = TypeVar("T")

_BUSY_S = 30.0
_READING = "archscout_reading"
_UNAVAILABLE_STATES = frozenset({"57P01", "57P02", "57P03", "53300"})
"""PostgreSQL's states: shutting down, crashed, starting up, too many connections."""
_KEEPALIVE = {
    "connect_timeout": 5,
    # Without these, a silently cut connection is noticed only after hours.
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}

_APPEND = insert(schema.event)
_DONE = select(schema.event.c.id).where(schema.event.c.operation == bindparam("operation"))
_LOCK = select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger)))
_DATABASE_TIME = select(func.extract("epoch", func.clock_timestamp()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One write transaction, committed as a whole or not at all."""

    connection: Connection
    operation: str
    """Unique id of this write, by which a COMMIT whose answer was lost can be looked up."""
    clock: Clock

    def now(self) -> float:
        """Return the time of records, in seconds since the epoch."""
        return self.clock.now()

    @property
    def shares_clock(self) -> bool:
        """Return True if leases use the database's clock, on which drivers of all hosts agree."""
        return self.connection.dialect.name == "postgresql"

    def lease_time(self) -> float:
        """Return the time of leases, in seconds since the epoch."""
        if self.shares_clock:
            return float(self.connection.scalar(_DATABASE_TIME) or 0.0)
        return self.clock.now()

    def lock(self, number: int) -> None:
        """Allow one transaction with this number at a time; SQLite always does."""
        if self.shares_clock:
            self.connection.execute(_LOCK, {"number": number})

    def append(self, study_id: int, generation: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Add an event, committed together with its change."""
        self.connection.execute(
            _APPEND,
            {
                "study_id": study_id,
                "kind": kind,
                "payload_json": to_json(payload),
                "recorded": self.now(),
                "generation": generation,
                "operation": self.operation,
            },
        )


class Database:
    """An open database with the newest schema."""

    def __init__(self, url: str | Path, clock: Clock, outage: Outage) -> None:
        """Open a database; create and migrate it if needed.

        Args:
            url: A file for SQLite, or a SQLAlchemy URL (`sqlite:///`, `postgresql://`).
            clock: Clock of records.
            outage: Waits for a server that does not answer.

        Raises:
            LedgerError: The URL is not that of a supported database.
            SchemaUnknownError: A newer release wrote it.
            LedgerUnavailableError: The database does not answer.
        """
        self._clock = clock
        self._outage = outage
        self._url = read_url(url)
        self.name = shown_name(self._url)
        """Driver, host, port and database, for messages."""
        self._redact = partial(redact, addresses=(str(url),))
        self._is_file = self._url.get_backend_name() == "sqlite"
        if self._is_file:
            refuse_network_disk(Path(str(self._url.database)), "the ledger", LEDGER_SERVER)
            _make_file(Path(str(self._url.database)))
            self._engine, self._reader = _open_sqlite(self._url)
        else:
            self._engine, self._reader = _open_postgresql(self._url)
        self._lock = threading.Lock()
        try:
            with self._named_errors():
                migrate(self._engine, self._reader)
                self._writer = self._engine.connect()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections, after the current write of another thread."""
        self._outage.cancel_wait()
        with self._lock:
            self._writer.close()
            self._engine.dispose()

    def cancel_wait(self) -> None:
        """Stop waiting for a server, also in other threads."""
        self._outage.cancel_wait()

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Do the work in one transaction, and return when it is on disk.

        An outage of the server is waited for. After a COMMIT whose answer was lost, the operation
        is looked up; if it was committed, the work is not repeated.
        """
        operation = uuid.uuid4().hex
        result: list[T] = []
        with self._lock, self._named_errors():
            try:
                return self._retry(lambda: self._try_write(work, operation, result))
            except DBAPIError:
                with contextlib.suppress(DBAPIError):
                    if result and self._was_committed(operation):
                        return result[0]
                raise

    def _try_write(self, work: Callable[[Transaction], T], operation: str, result: list[T]) -> T:
        """Try once; `result` is filled before the COMMIT."""
        if result and self._was_committed(operation):
            return result[0]
        result.clear()
        with self._begin(operation) as tx:
            result.append(work(tx))
        return result[0]

    def _was_committed(self, operation: str) -> bool:
        """Return True if an earlier try was committed; a write without events may be repeated."""
        with self._begin(operation) as tx:
            return tx.connection.scalar(_DONE, {"operation": operation}) is not None

    @contextlib.contextmanager
    def _begin(self, operation: str) -> Iterator[Transaction]:
        if self._writer.closed:
            self._writer = self._engine.connect()
        try:
            with self._writer.begin():
                tx = Transaction(connection=self._writer, operation=operation, clock=self._clock)
                # An interrupted COMMIT may still be in progress: a second try waits for it here.
                tx.lock(int(operation[:15], 16))
                yield tx
        except DBAPIError as error:
            if self._is_outage(error):
                self._writer.invalidate()
                self._writer.close()
            raise

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do the work on one consistent snapshot; an outage of the server is waited for."""
        with self._named_errors():
            return self._retry(lambda: self._try_read(work))

    def _try_read(self, work: Callable[[Connection], T]) -> T:
        with self._reader.connect() as connection, connection.begin():
            return work(connection)

    def _retry(self, attempt: Callable[[], T]) -> T:
        """Return the result of the attempt, repeated during an outage."""
        while True:
            try:
                result = attempt()
            except DBAPIError as error:
                message = f"ledger {self.name} does not answer: {self._message(error)}"
                if not (self._is_outage(error) and self._outage.wait_or_give_up(message)):
                    raise
            else:
                self._outage.end()
                return result

    def _is_outage(self, error: DBAPIError) -> bool:
        """Return True for a lost or impossible connection, False for a refused statement."""
        if self._is_file:
            return False
        # Errors of the client have no state: an absent server, a cut connection.
        state = getattr(error.orig, "sqlstate", None)
        is_client_error = isinstance(error, OperationalError) and state is None
        return error.connection_invalidated or is_client_error or state in _UNAVAILABLE_STATES

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise LedgerUnavailableError(
                _explain(self._message(error), self._url, self.name)
            ) from None
        except DBAPIError as error:
            raise LedgerError(f"ledger {self.name} refused: {self._message(error)}") from None

    def _message(self, error: Exception) -> str:
        """Return the first line of the database's message, without secrets."""
        return self._redact(str(getattr(error, "orig", None) or error).strip().partition("\n")[0])


def _explain(message: str, url: URL, name: str) -> str:
    if "full" in message and url.get_backend_name() == "sqlite":
        path = Path(str(url.database))
        free = shutil.disk_usage(path.parent).free
        return f"the disk of {path} is full ({free} bytes are free): make room, then resume"
    if "locked" in message:
        return f"ledger {name} was locked by another process for {_BUSY_S:.0f} s: {message}"
    return (
        f"ledger {name} did not answer: {message}. All acknowledged results are kept: "
        "once it answers, give the same command again, or resume the study"
    )


def shown_name(url: URL) -> str:
    """Return the address for messages, without user, password and options."""
    if url.get_backend_name() == "sqlite":
        return f"{url.drivername}:///{url.database}"
    # An unescaped `@` in the password makes the rest of it a part of the host.
    host = str(url.host or url.query.get("host") or "").rpartition("@")[2]
    port = f":{url.port}" if url.port else ""
    return f"{url.drivername}://{host}{port}/{url.database or ''}"


def read_url(url: str | Path) -> URL:
    """Parse the address of a database.

    Args:
        url: A file for SQLite, or a SQLAlchemy URL.

    Raises:
        LedgerError: It is not the address of a supported database. The message has no password.
    """
    if isinstance(url, Path):
        return URL.create("sqlite", database=str(url))
    try:
        read = make_url(url)
        if read.drivername in {"postgresql", "postgres"}:
            read = read.set(drivername="postgresql+psycopg")
        dialect = read.get_dialect().name
    except (ArgumentError, NoSuchModuleError, ValueError):  # ValueError for a port
        # Not chained and not quoted: the text may contain a password.
        raise LedgerError(
            "the ledger's URL cannot be parsed: write it like sqlite:////data/ledger.db "
            "or postgresql://user@host/database"
        ) from None
    if read.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise LedgerError(
            f"a ledger cannot be stored in {read.drivername!r} ({dialect}): "
            "use sqlite:///FILE or postgresql://user@host/database"
        )
    if dialect != "sqlite" and has_stray_at(str(url)):
        raise LedgerError(
            "the ledger's URL has an unescaped '@' or '?' in its user or password: write them as "
            "%40 and %3F (and '/' as %2F, ':' as %3A)"
        )
    if dialect == "sqlite" and read.database in {None, "", ":memory:"}:
        raise LedgerError("a ledger in memory would be lost: give a file, sqlite:///FILE")
    return read


def _make_file(path: Path) -> None:
    """Create the file and missing folders for their owner only, as are SQLite's other files."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        for parent in reversed(missing):
            parent.mkdir(mode=0o700, exist_ok=True)
        # An existing file is not opened: closing it would release the locks that SQLite holds on it
        # for another ledger of this process (POSIX record locks belong to the process).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise LedgerUnavailableError(f"{path} cannot be opened: {error.strerror}") from None


def _open_sqlite(url: URL) -> tuple[Engine, Engine]:
    engine = create_engine(url, connect_args={"timeout": _BUSY_S}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(_READING)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine, engine.execution_options(**{_READING: True})


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn on WAL mode in a loop, as SQLite's busy timeout does not cover this statement."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _open_postgresql(url: URL) -> tuple[Engine, Engine]:
    engine = create_engine(url, hide_parameters=True, connect_args=_KEEPALIVE)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        # A driver suspended in a transaction must not block the next one forever.
        connection.execute("SET idle_in_transaction_session_timeout = '10s'")
        connection.execute(f"SET lock_timeout = '{_BUSY_S:.0f}s'")
        connection.commit()

    return engine, engine.execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )
