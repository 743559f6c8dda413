"""What processes show, where they may end at any moment."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psutil

T = TypeVar("T")


def of_living(look: Callable[[psutil.Process], T], process: psutil.Process) -> T | None:
    """What a process shows; nothing of one that has just ended."""
    with suppress(psutil.NoSuchProcess):
        return look(process)
    return None


def lives(pid: int) -> bool:
    """Whether the process is there, and not only waits for its parent to bury it."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def children(name: str) -> list[psutil.Process]:
    """This process's living children of that name."""
    found = psutil.Process().children()
    return [
        each for each in found if of_living(psutil.Process.name, each) == name and lives(each.pid)
    ]
