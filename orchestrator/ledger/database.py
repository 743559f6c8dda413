"""The way into the database: one writer, many readers, and both dialects behind one door.

SQLite runs in WAL mode with synchronous=FULL, and every write starts with BEGIN IMMEDIATE, because
a transaction that reads first and writes later can lose to another process in between. PostgreSQL
serialises the writers of a study by a lock on its lease row. Knows transactions, no trials.
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
from orchestrator.ledger.door import to_json
from orchestrator.ledger.errors import LedgerError, LedgerUnavailable
from orchestrator.ledger.migrations import migrate

T = TypeVar("T")

_BUSY_S = 30.0
_READING = "archscout_reading"

_APPEND = insert(schema.event)
_DONE = select(schema.event.c.id).where(schema.event.c.operation == bindparam("operation"))
_LOCK = select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger)))
_DATABASE_TIME = select(func.extract("epoch", func.clock_timestamp()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One write transaction: everything in it is committed together, or nothing is."""

    connection: Connection
    operation: str
    """Names this write for good, so that a COMMIT whose answer was lost can be looked up."""
    clock: Clock

    def now(self) -> float:
        """Seconds since the epoch, for records."""
        return self.clock.now()

    @property
    def shares_clock(self) -> bool:
        """Whether the database tells the time, so that drivers on different hosts agree."""
        return self.connection.dialect.name == "postgresql"

    def lease_time(self) -> float:
        """Seconds since the epoch by the clock that leases are judged by."""
        if self.shares_clock:
            return float(self.connection.scalar(_DATABASE_TIME) or 0.0)
        return self.clock.now()

    def lock(self, number: int) -> None:
        """Let one transaction with this number run at a time; SQLite runs one at a time anyway."""
        if self.shares_clock:
            self.connection.execute(_LOCK, {"number": number})

    def append(self, study_id: int, generation: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Add an event, committed with the change that it tells of."""
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
    """An open database whose schema is ours."""

    def __init__(self, url: str | Path, clock: Clock) -> None:
        """Open it, made and migrated where needed.

        Args:
            url: A file for SQLite, or a SQLAlchemy URL (`sqlite:///`, `postgresql://`).
            clock: Tells the time of records.

        Raises:
            LedgerError: The URL is not one of a database that a ledger can live in.
            SchemaUnknown: A newer release wrote it.
            LedgerUnavailable: It cannot be reached.
        """
        self._clock = clock
        self._url = read_url(url)
        self.name = self._url.render_as_string(hide_password=True)
        """The URL without its password, for messages."""
        if self._url.get_backend_name() == "sqlite":
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
        """Let go of all connections; a write under way in another thread ends first."""
        with self._lock:
            self._writer.close()
            self._engine.dispose()

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Do the work in one transaction, and return when it is on disk.

        A connection lost on the way is made anew once. Whether the first COMMIT arrived is looked
        up by the operation's name; if it did, the work is not repeated.
        """
        operation = uuid.uuid4().hex
        with self._lock, self._named_errors():
            result: list[T] = []
            try:
                return self._try_write(work, operation, result)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self._writer.close()
            with self._begun(operation) as tx:
                done = tx.connection.scalar(_DONE, {"operation": operation}) is not None
            if done and result:
                return result[0]
            return self._try_write(work, operation, result)

    def _try_write(self, work: Callable[[Transaction], T], operation: str, result: list[T]) -> T:
        with self._begun(operation) as tx:
            made = work(tx)
            result[:] = [made]
        return made

    @contextlib.contextmanager
    def _begun(self, operation: str) -> Iterator[Transaction]:
        connection = self._connected()
        with connection.begin():
            tx = Transaction(connection=connection, operation=operation, clock=self._clock)
            # A COMMIT cut off on its way may still be at work: its second try waits for it here.
            tx.lock(int(operation[:15], 16))
            yield tx

    def _connected(self) -> Connection:
        """The writer's connection, made anew if the last one was lost."""
        if self._writer.closed:
            self._writer = self._engine.connect()
        return self._writer

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do the work on one consistent snapshot, once more if the connection was lost."""
        with self._named_errors():
            try:
                return self._try_read(work)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return self._try_read(work)

    def _try_read(self, work: Callable[[Connection], T]) -> T:
        with self._reader.connect() as connection, connection.begin():
            return work(connection)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise LedgerUnavailable(_explain(_said(error), self._url, self.name)) from None
        except DBAPIError as error:
            raise LedgerError(f"ledger {self.name} refused: {_said(error)}") from None


def _said(error: Exception) -> str:
    """What the database said, without the statement and its parameters."""
    return str(getattr(error, "orig", None) or error).strip()


def _explain(said: str, url: URL, name: str) -> str:
    if "full" in said and url.get_backend_name() == "sqlite":
        path = Path(str(url.database))
        free = shutil.disk_usage(path.parent).free
        return f"the disk of {path} is full ({free} bytes are free): make room, then resume"
    if "locked" in said:
        return f"ledger {name} was locked by another process for {_BUSY_S:.0f} s: {said}"
    return f"ledger {name} did not answer: {said}"


def read_url(url: str | Path) -> URL:
    """The address of a database that a ledger can live in.

    Raises:
        LedgerError: It is not one.
    """
    if isinstance(url, Path):
        return URL.create("sqlite", database=str(url))
    try:
        read = make_url(url)
        if read.drivername in {"postgresql", "postgres"}:
            read = read.set(drivername="postgresql+psycopg")
        dialect = read.get_dialect().name
    except (ArgumentError, NoSuchModuleError):
        # Not chained and not quoted: what could not be read may hold a password.
        raise LedgerError(
            "the ledger's URL cannot be read: it looks like sqlite:////data/ledger.db "
            "or postgresql://user@host/database"
        ) from None
    if read.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise LedgerError(
            f"a ledger cannot live in {read.drivername!r} ({dialect}): "
            "use sqlite:///FILE or postgresql://user@host/database"
        )
    if dialect == "sqlite" and read.database in {None, "", ":memory:"}:
        raise LedgerError("a ledger in memory forgets: give a file, sqlite:///FILE")
    return read


def _make_file(path: Path) -> None:
    """Make the file and missing folders for their owner alone; SQLite's side files follow it."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        for parent in reversed(missing):
            parent.mkdir(mode=0o700, exist_ok=True)
        # Never opened if it exists: closing it would drop the locks that SQLite holds on it for
        # another ledger of this process (POSIX record locks belong to the process).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise LedgerUnavailable(f"{path} cannot be opened: {error.strerror}") from None


def _open_sqlite(url: URL) -> tuple[Engine, Engine]:
    engine = create_engine(url, connect_args={"timeout": _BUSY_S}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # BEGIN is ours to say
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(_READING)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine, engine.execution_options(**{_READING: True})


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn on WAL mode, waiting by hand: SQLite's busy timeout does not cover this switch."""
    give_up = time.monotonic() + _BUSY_S
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _open_postgresql(url: URL) -> tuple[Engine, Engine]:
    engine = create_engine(url, hide_parameters=True, connect_args={"connect_timeout": 10})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        # A driver that is stopped in mid-transaction must not lock the next one out for good.
        connection.execute("SET idle_in_transaction_session_timeout = '10s'")
        connection.execute(f"SET lock_timeout = '{_BUSY_S:.0f}s'")
        connection.commit()

    return engine, engine.execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )
