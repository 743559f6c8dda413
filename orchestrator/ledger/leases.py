"""Leases: one driver a study, named by host, process and generation.

A lease lasts 30 s and is renewed while its driver lives. Its generation rises at each acquisition
and is compared inside every write: a driver that lost it, however late it wakes, writes nothing.
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
"""How long a lease lasts when it is not renewed."""

# FOR UPDATE makes PostgreSQL serialise the writers of one study; SQLite leaves it out.
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
    """One process on one boot of one host: pids come again, this does not."""

    host: str
    pid: int
    process_started: str
    """When the process began, in the host's own count; tells it from a later one with its pid."""
    boot_id: str
    """The host's boot and process namespace: only within one do pids mean the same."""

    @classmethod
    def of_this_process(cls) -> Self:
        """The process that asks."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            pid=pid,
            process_started=_process_start(pid) or "",
            boot_id=_boot_id(),
        )

    def __str__(self) -> str:
        """As the ledger spells it."""
        return f"{self.host}/{self.pid}/{self.process_started}/{self.boot_id}"

    def is_gone(self) -> bool:
        """Whether it certainly runs no more, as far as this host can tell."""
        if (self.host, self.boot_id) != (socket.gethostname(), _boot_id()):
            return False
        return _process_start(self.pid) != self.process_started and not _is_hidden(self.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to write one study, for as long as its generation is the newest."""

    study_id: int
    generation: int
    """Counts acquisitions of this study's lease, from 1."""
    holder: Holder
    until: float
    """Seconds since the epoch when it ends unless it is renewed."""


def acquire(tx: Transaction, study_id: int, name: str, holder: Holder) -> Lease:
    """Take the lease, if it is free, ended, or its holder's process is gone.

    Raises:
        LeaseHeldError: Another driver has it.
    """
    found = require_free(tx, study_id, name)
    now = tx.lease_time()
    taken = Lease(
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
        "generation": taken.generation,
        "until": taken.until,
        "until_monotonic": tx.clock.monotonic() + LEASE_S,
    }
    if found is None:
        tx.connection.execute(_CREATE, {"study_id": study_id, **row})
    else:
        tx.connection.execute(_CHANGE.values(**row), {"of_study": study_id})
    tx.append(
        study_id,
        taken.generation,
        "lease_acquired",
        {"holder": str(holder), "host": holder.host, "pid": holder.pid},
    )
    return taken


def require_free(tx: Transaction, study_id: int, name: str) -> Row[Any] | None:
    """The lease's row, if there is one, which nobody may hold.

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
    """Make sure that the lease is still ours, and keep it so until the transaction ends.

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


def renew(tx: Transaction, lease: Lease) -> Lease:
    """Let the lease last another 30 s from now."""
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
    """Give the lease back; the generation stays, so that nothing more is written under it."""
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
        # One boot has one monotonic clock for all its processes, which nobody can set.
        return bool(tx.clock.monotonic() >= found.until_monotonic)
    return bool(now >= found.until)


def _boot_id() -> str:
    """The host's boot, and the namespace in which its process ids are counted."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{psutil.boot_time():.0f}"


def _process_start(pid: int) -> str | None:
    """When the process began; None if there is none, or only what its parent has yet to bury."""
    try:
        # The command's name stands in parentheses and may hold anything, more of them included.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _process_start_elsewhere(pid)
    return None if fields[0] in {"Z", "X"} else fields[19]


def _is_hidden(pid: int) -> bool:
    """Whether a process is there but shown to its own account alone (`hidepid` of /proc)."""
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:  # there is none
        return False
    return False


def _process_start_elsewhere(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
