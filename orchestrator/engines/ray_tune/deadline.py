"""Calls with a deadline, for libraries whose calls may never return."""

import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

CALL_S = 60.0
"""How long Ray's head may take to answer one call."""


def call(function: Callable[[], T], *, limit_s: float) -> T:
    """Return what the function returns, or raise what it raises.

    It runs in a thread of its own, which is left behind where it does not end in time; signals are
    handled meanwhile.

    Raises:
        TimeoutError: It has not returned in time.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            future.set_exception(error)

    threading.Thread(target=run, name="archscout-call", daemon=True).start()
    return future.result(limit_s)


def answers(address: str) -> bool:
    """Return whether something takes calls at HOST:PORT."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
        return True
    return False
