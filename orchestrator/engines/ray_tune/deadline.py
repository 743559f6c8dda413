"""Calls with a deadline, for libraries whose calls may never return."""

import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from search_spaces.errors import ArchscoutError

T = TypeVar("T")

CALL_S = 60.0
"""How long Ray's head may take to answer one call."""

SLOW_S = 2.0
"""How long anything may take without a word to the user."""


class NoAnswerError(ArchscoutError, TimeoutError):
    """A call has not returned before its deadline."""


def silent(*_: object) -> None:
    """Say nothing."""


def call(function: Callable[[], T], *, limit_s: float, slow: Callable[[], None] = silent) -> T:
    """Return what the function returns, or raise what it raises.

    It runs in a thread of its own, which is left behind where it does not end in time; signals are
    handled meanwhile.

    Args:
        function: The call.
        limit_s: Seconds that it may take.
        slow: Called once after two seconds, to tell the user what is waited for.

    Raises:
        NoAnswerError: It has not returned in time.
    """
    return result_of(in_a_thread(function, "archscout-call"), limit_s=limit_s, slow=slow)


def in_a_thread(function: Callable[[], T], name: str) -> "Future[T]":
    """Run a function in a daemon thread of this name, which keeps no process from ending.

    Returns:
        What it returns or raises.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where the result is taken
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def result_of(future: "Future[T]", *, limit_s: float, slow: Callable[[], None] = silent) -> T:
    """Wait for the result of a future as `call` does.

    Raises:
        NoAnswerError: There is none in time.
    """
    if not wait([future], min(SLOW_S, limit_s)).done:
        slow()
        if not wait([future], max(0.0, limit_s - SLOW_S)).done:
            raise NoAnswerError(f"no answer within {limit_s:g} s")
    return future.result()


def answers(address: str) -> bool:
    """Return whether something takes calls at HOST:PORT."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
        return True
    return False
