"""Leases: one driver for each study, identified by host, process and generation.

A lease lasts 30 s and is renewed by its driver. Its generation rises at each acquisition and is
compared in every write: a driver that has lost its lease writes nothing.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
from sqlalchemy import Row, bindparam, insert, select, update

from orchestrator.ledger.database import Transaction
from orchestrator.ledger.errors import LeaseHeldError, LeaseLostError, StudyGoneError
from orchestrator.ledger.schema import lease as table

LEASE_S = 30.0
"""Duration of a lease without renewal, in seconds."""

# FOR UPDATE makes PostgreSQL serialize the writers of one study; SQLite ignores it.
_LOCKED = select(table).where(table.c.study_id == bindparam("of_study")).with_for_update()
_HELD = (
    select(table.c.generation, table.c.holder)
    .where(table.c.study_id == bindparam("of_study"))
    .with_for_update()
)
_CREATE = insert(table)
_CHANGE = update(table).where(table.c.study_id == bindparam("of_study"))
_RENEW = _CHANGE.values(until=bindparam("to"), until_monotonic=bindparam("to_monotonic"))
_RELEASE = _CHANGE.values(holder=None, until=0.0, until_monotonic=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One process on one boot of one host, unlike a pid never reused."""

    host: str
    pid: int
    process_started: str
    """Start time by the host's clock, which distinguishes processes with the same pid."""
    boot_id: str
    """Boot and process namespace of the host, in which pids are unique."""

    @classmethod
    def of_this_process(cls) -> Self:
        """Return the holder for the calling process."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            pid=pid,
            process_started=_process_start(pid) or "",
            boot_id=_boot_id(),
        )

    def __str__(self) -> str:
        """Return the text that the ledger stores."""
        return f"{self.host}/{self.pid}/{self.process_started}/{self.boot_id}"

    def is_gone(self) -> bool:
        """Return True if the process has certainly ended; False for a process of another host."""
        if (self.host, self.boot_id) != (socket.gethostname(), _boot_id()):
            return False
        return _process_start(self.pid) != self.process_started and not _is_hidden(self.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to write one study, while its generation is the newest."""

    study_id: int
    generation: int
    """Number of acquisitions of this study's lease, from 1."""
    holder: Holder
    until: float
    """End without renewal, in seconds since the epoch."""


def acquire(tx: Transaction, study_id: int, name: str, holder: Holder) -> Lease:
    """Acquire the lease, if it is free, expired, or its holder's process has ended.

    Raises:
        LeaseHeldError: Another driver has it.
    """
    found = require_free(tx, study_id, name)
    now = tx.lease_time()
    acquired = Lease(
        study_id=study_id,
        generation=1 if found is None else found.generation + 1,
        holder=holder,
        until=now + LEASE_S,
    )
    row = {
        "holder": str(holder),
        "host": holder.host,
        "pid": holder.pid,
        "process_started": holder.process_started,
        "boot_id": holder.boot_id,
        "generation": acquired.generation,
        "until": acquired.until,
        "until_monotonic": tx.clock.monotonic() + LEASE_S,
    }
    if found is None:
        tx.connection.execute(_CREATE, {"study_id": study_id, **row})
    else:
        tx.connection.execute(_CHANGE.values(**row), {"of_study": study_id})
    tx.append(
        study_id,
        acquired.generation,
        "lease_acquired",
        {"holder": str(holder), "host": holder.host, "pid": holder.pid},
    )
    return acquired


def require_free(tx: Transaction, study_id: int, name: str) -> Row[Any] | None:
    """Require that the lease is free, and return its row, if there is one.

    Raises:
        LeaseHeldError: A driver has it.
    """
    found = tx.connection.execute(_LOCKED, {"of_study": study_id}).one_or_none()
    if found is not None and not _is_free(tx, found, tx.lease_time()):
        raise LeaseHeldError(
            name, holder=found.holder, host=found.host, pid=found.pid, until=found.until
        )
    return found


def require(tx: Transaction, lease: Lease) -> None:
    """Require that the lease is still held, and lock it until the transaction ends.

    Raises:
        LeaseLostError: It was taken over or released.
        StudyGoneError: The study has been deleted.
    """
    found = tx.connection.execute(_HELD, {"of_study": lease.study_id}).one_or_none()
    if found is None:
        raise StudyGoneError(f"study {lease.study_id} was deleted while this driver ran it")
    if found.holder is None:
        raise LeaseLostError(lease.study_id, lease.generation, None)
    if found.generation != lease.generation:
        raise LeaseLostError(lease.study_id, lease.generation, found.generation)


def lock(tx: Transaction, study_id: int) -> int:
    """Lock the lease of any holder until the transaction ends, and return its generation.

    Events of a study are then written one transaction after the other.

    Raises:
        StudyGoneError: The study has been deleted.
    """
    found = tx.connection.execute(_HELD, {"of_study": study_id}).one_or_none()
    if found is None:
        raise StudyGoneError(f"study {study_id} was deleted")
    return int(found.generation)


def renew(tx: Transaction, lease: Lease) -> Lease:
    """Renew the lease for 30 s."""
    require(tx, lease)
    until = tx.lease_time() + LEASE_S
    tx.connection.execute(
        _RENEW,
        {
            "of_study": lease.study_id,
            "to": until,
            "to_monotonic": tx.clock.monotonic() + LEASE_S,
        },
    )
    return Lease(
        study_id=lease.study_id, generation=lease.generation, holder=lease.holder, until=until
    )


def release(tx: Transaction, lease: Lease) -> None:
    """Release the lease; its generation stays, so that it allows no more writes."""
    require(tx, lease)
    tx.connection.execute(_RELEASE, {"of_study": lease.study_id})
    tx.append(lease.study_id, lease.generation, "lease_released", {"holder": str(lease.holder)})


def _is_free(tx: Transaction, found: Row[Any], now: float) -> bool:
    if found.holder is None:
        return True
    holder = Holder(
        host=found.host,
        pid=found.pid,
        process_started=found.process_started,
        boot_id=found.boot_id,
    )
    if holder.is_gone():
        return True
    same_boot = (holder.host, holder.boot_id) == (socket.gethostname(), _boot_id())
    if same_boot and not tx.shares_clock:
        # One boot has one monotonic clock for all processes, which cannot be set.
        return bool(tx.clock.monotonic() >= found.until_monotonic)
    return bool(now >= found.until)


def _boot_id() -> str:
    """Return the id of the host's boot and of its process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{psutil.boot_time():.0f}"


def _process_start(pid: int) -> str | None:
    """Return the start time of a process; None if there is none, or a zombie."""
    try:
        # The name of the command is in parentheses and may contain parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _process_start_without_proc(pid)
    return None if fields[0] in {"Z", "X"} else fields[19]


def _is_hidden(pid: int) -> bool:
    """Return True for a process of another account that /proc hides (`hidepid`)."""
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:  # no such process
        return False
    return False


def _process_start_without_proc(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
