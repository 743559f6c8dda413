"""Calls with a timeout, for libraries whose calls may never return."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from search_spaces.errors import ArchscoutError

T = TypeVar("T")

SLOW_S = 2.0
"""Seconds after which the user sees the reason for a wait."""


class NoAnswerError(ArchscoutError, TimeoutError):
    """A call has not returned in time."""


def call_with_timeout(
    function: Callable[[], T], *, timeout_s: float, on_slow: Callable[[], None] = lambda: None
) -> T:
    """Return the result of a function, or raise its exception.

    The function runs in a thread of its own, which is abandoned if it does not end in time. The
    calling thread still handles signals.

    Args:
        function: The call.
        timeout_s: Its time limit, in seconds.
        on_slow: Called once after `SLOW_S`.

    Raises:
        NoAnswerError: It has not returned in time.
    """
    future = start_in_thread(function, "archscout-call")
    return result_within(future, timeout_s=timeout_s, on_slow=on_slow)


def start_in_thread(function: Callable[[], T], name: str) -> "Future[T]":
    """Start a function in a daemon thread, which does not keep the process from exiting.

    Args:
        function: The call.
        name: Name of the thread.

    Returns:
        Its future result or exception.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where the result is taken
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def result_within(
    future: "Future[T]", *, timeout_s: float, on_slow: Callable[[], None] = lambda: None
) -> T:
    """Wait for the result of a future, as `call_with_timeout` does.

    Raises:
        NoAnswerError: There is none in time.
    """
    if not wait([future], min(SLOW_S, timeout_s)).done:
        on_slow()
        if not wait([future], max(0.0, timeout_s - SLOW_S)).done:
            raise NoAnswerError(f"no answer within {timeout_s:g} s")
    return future.result()
