"""A study while libfaketime moves the clock of its PostgreSQL server by an hour, either way.

    apt-get install libfaketime
    PYTHONPATH=.:tests python tests/chaos/clocks.py

The clock jumps under a driver on another host while a second one comes: the second is refused, or
the first writes no more. Then a driver finishes the study, and the clock jumps back meanwhile.
Exit 1 if both could write, or if the checker finds a violation in the finished study.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import drivers
import psycopg
from drivers import EPOCHS, TRIALS, World
from support import checker
from support.servers import Server, server

from orchestrator.ledger import Holder, LeaseHeldError, LeaseLostError, Ledger

_LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
_HOUR_S = 3600


def main() -> int:
    """Run both jumps and print their results."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the server is another user's process
        moved = Path(folder) / "clock"
        environment = {
            "LD_PRELOAD": _LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(moved),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        for jump_s in (_HOUR_S, -_HOUR_S):
            moved.write_text("+0\n")
            with server(**environment) as ours:
                found += _play(ours, moved, jump_s, Path(folder) / str(jump_s))
    print("\n".join(found) or "0 violations")
    return int(bool(found))


def _play(ours: Server, moved: Path, jump_s: int, home: Path) -> list[str]:
    home.mkdir()
    world = World(home=home, url=ours.url, name="clocks", seed=1)
    found = _two_drivers(ours, moved, jump_s, world)
    with psycopg.connect(ours.url) as connection:  # both of them are gone
        connection.execute("UPDATE lease SET holder = NULL")
    pid = drivers.forked(world, drivers.search, None, home / "log")
    time.sleep(0.3)
    _move(ours, moved, 0)
    if (code := drivers.ended(pid, timeout_s=240)) != drivers.FINISHED:
        found.append(f"the last driver ended with {code}; see {(home / 'log').read_text()}")
    return [*found, *checker.of_ledger(ours.url, world.name, TRIALS, EPOCHS)]


def _two_drivers(ours: Server, moved: Path, jump_s: int, world: World) -> list[str]:
    """Check that exactly one of two drivers on other hosts may write after the jump."""
    with Ledger.open(ours.url) as first, Ledger.open(ours.url) as second:
        lease = _opened(first, world, "one")
        _move(ours, moved, jump_s)
        may_write = []
        try:
            _opened(second, world, "two")
            may_write.append("the second")
        except LeaseHeldError:
            pass
        try:
            first.add_spent(first.renew(lease), 0.0)
            may_write.append("the first")
        except LeaseLostError:
            pass
    print(f"{jump_s:+d} s: {' and '.join(may_write)} may write")
    return [] if len(may_write) == 1 else [f"{jump_s:+d} s: {may_write} may write"]


def _opened(ledger: Ledger, world: World, host: str) -> Any:
    _, lease = ledger.open_study(
        name=world.name,
        config_json=world.config.canonical_json(),
        space_name="branching",
        space_version="1",
        data_digest="none",
        holder=Holder(host=host, pid=1, process_started="", boot_id=host),
    )
    return lease


def _move(ours: Server, moved: Path, to_s: int) -> None:
    """Move the server's clock, and return once the server reports that time."""
    moved.write_text(f"{to_s:+d}\n")
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with psycopg.connect(ours.url) as connection:
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
        if row is not None and abs(float(row[0]) - time.time() - to_s) < 60:
            return
        time.sleep(0.1)
    raise TimeoutError(f"the server's clock does not move: is {_LIBRARY} there?")


if __name__ == "__main__":
    sys.exit(main())
