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
_AWAY = frozenset({"57P01", "57P02", "57P03", "53300"})
"""PostgreSQL's words for: shutting down, crashed, starting up, no connection left."""
_NOTICE_LOSS = {
    "connect_timeout": 5,
    # A line that is cut without a word would otherwise be listened to for hours.
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

    def __init__(self, url: str | Path, clock: Clock, outage: Outage) -> None:
        """Open it, made and migrated where needed.

        Args:
            url: A file for SQLite, or a SQLAlchemy URL (`sqlite:///`, `postgresql://`).
            clock: Tells the time of records.
            outage: Says how long a server that goes away later is waited for.

        Raises:
            LedgerError: The URL is not one of a database that a ledger can live in.
            SchemaUnknownError: A newer release wrote it.
            LedgerUnavailableError: It cannot be reached.
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
        """Let go of all connections; a write under way in another thread ends first."""
        self._outage.cancel_wait()
        with self._lock:
            self._writer.close()
            self._engine.dispose()

    def cancel_wait(self) -> None:
        """Wait for a server that is away no more: who waits in another thread gives up."""
        self._outage.cancel_wait()

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Do the work in one transaction, and return when it is on disk.

        A server that is away is waited for. Whether a COMMIT whose answer was lost had arrived is
        looked up by the operation's name; if it had, the work is not repeated.
        """
        operation = uuid.uuid4().hex
        result: list[T] = []
        with self._lock, self._named_errors():
            try:
                return self._outlasting(lambda: self._try_write(work, operation, result))
            except DBAPIError:
                with contextlib.suppress(DBAPIError):
                    if result and self._was_committed(operation):
                        return result[0]
                raise

    def _try_write(self, work: Callable[[Transaction], T], operation: str, result: list[T]) -> T:
        """One try; `result` is filled once there is nothing left to do but to commit."""
        if result and self._was_committed(operation):
            return result[0]
        result.clear()
        with self._begun(operation) as tx:
            result.append(work(tx))
        return result[0]

    def _was_committed(self, operation: str) -> bool:
        """Whether an earlier try took effect; a write without events may be done again anyway."""
        with self._begun(operation) as tx:
            return tx.connection.scalar(_DONE, {"operation": operation}) is not None

    @contextlib.contextmanager
    def _begun(self, operation: str) -> Iterator[Transaction]:
        if self._writer.closed:
            self._writer = self._engine.connect()
        try:
            with self._writer.begin():
                tx = Transaction(connection=self._writer, operation=operation, clock=self._clock)
                # A COMMIT cut off on its way may still be at work: a second try waits for it here.
                tx.lock(int(operation[:15], 16))
                yield tx
        except DBAPIError as error:
            if self._is_away(error):
                self._writer.invalidate()
                self._writer.close()
            raise

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do the work on one consistent snapshot; a server that is away is waited for."""
        with self._named_errors():
            return self._outlasting(lambda: self._try_read(work))

    def _try_read(self, work: Callable[[Connection], T]) -> T:
        with self._reader.connect() as connection, connection.begin():
            return work(connection)

    def _outlasting(self, attempt: Callable[[], T]) -> T:
        """What the attempt gives, tried again for as long as the server is away."""
        while True:
            try:
                made = attempt()
            except DBAPIError as error:
                said = f"ledger {self.name} does not answer: {self._said(error)}"
                if not (self._is_away(error) and self._outage.wait_or_give_up(said)):
                    raise
            else:
                self._outage.over()
                return made

    def _is_away(self, error: DBAPIError) -> bool:
        """Whether the connection is lost or cannot be made, rather than the work refused."""
        if self._is_file:
            return False
        # What the client says itself has no state: a server that is not there, a line that is cut.
        state = getattr(error.orig, "sqlstate", None)
        client = isinstance(error, OperationalError) and state is None
        return error.connection_invalidated or client or state in _AWAY

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise LedgerUnavailableError(
                _explain(self._said(error), self._url, self.name)
            ) from None
        except DBAPIError as error:
            raise LedgerError(f"ledger {self.name} refused: {self._said(error)}") from None

    def _said(self, error: Exception) -> str:
        """Return the database's own words in one line, without statement, parameters, secrets."""
        return self._redact(str(getattr(error, "orig", None) or error).strip().partition("\n")[0])


def _explain(said: str, url: URL, name: str) -> str:
    if "full" in said and url.get_backend_name() == "sqlite":
        path = Path(str(url.database))
        free = shutil.disk_usage(path.parent).free
        return f"the disk of {path} is full ({free} bytes are free): make room, then resume"
    if "locked" in said:
        return f"ledger {name} was locked by another process for {_BUSY_S:.0f} s: {said}"
    return (
        f"ledger {name} did not answer: {said}. What it acknowledged is kept: "
        "once it answers, give the same command again, or resume the study"
    )


def shown_name(url: URL) -> str:
    """Return the address as messages show it: never built from what may hold a secret."""
    if url.get_backend_name() == "sqlite":
        return f"{url.drivername}:///{url.database}"
    # An unescaped `@` in the password makes its rest a part of the host.
    host = str(url.host or url.query.get("host") or "").rpartition("@")[2]
    port = f":{url.port}" if url.port else ""
    return f"{url.drivername}://{host}{port}/{url.database or ''}"


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
    except (ArgumentError, NoSuchModuleError, ValueError):  # the last for a port
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
    if dialect != "sqlite" and has_stray_at(str(url)):
        raise LedgerError(
            "the ledger's URL has an unescaped '@' or '?' in its user or password: write them as "
            "%40 and %3F (and '/' as %2F, ':' as %3A)"
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
        raise LedgerUnavailableError(f"{path} cannot be opened: {error.strerror}") from None


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
    engine = create_engine(url, hide_parameters=True, connect_args=_NOTICE_LOSS)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        # A driver that is stopped in mid-transaction must not lock the next one out for good.
        connection.execute("SET idle_in_transaction_session_timeout = '10s'")
        connection.execute(f"SET lock_timeout = '{_BUSY_S:.0f}s'")
        connection.commit()

    return engine, engine.execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )
