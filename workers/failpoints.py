"""Failpoints for fault-injection tests: `ARCHSCOUT_FAULT=point:nth:kind`.

The n-th time that the named point is passed, the process is killed, hangs, or gets a system error.
Without the variable a point costs less than a microsecond. Kinds: `kill`, `hang`, and the names of
`errno` (`ENOSPC`, `EIO`, ...).
"""

import errno
import os
import signal
import time
from collections import Counter

from search_spaces.errors import ArchscoutError

VARIABLE = "ARCHSCOUT_FAULT"
"""Environment variable that names a fault."""

JOURNAL = "ARCHSCOUT_FAULTS_SEEN"
"""Environment variable with a file to which each injected fault is appended, for coverage."""

_passed: Counter[str] = Counter()


class FaultError(ArchscoutError, ValueError):
    """The variable does not name a fault."""


def fault(point: str) -> None:
    """Inject the fault that the environment requests at this point, if any.

    Args:
        point: Name of this point, such as `checkpoint.written`.

    Raises:
        OSError: The environment requests a system error.
        FaultError: The variable is malformed.
    """
    if VARIABLE not in os.environ:
        return
    named, nth, kind = _parse(os.environ[VARIABLE])
    if named != point:
        return
    _passed[point] += 1
    if _passed[point] == nth:
        _inject(point, kind)


def _parse(text: str) -> tuple[str, int, str]:
    point, _, rest = text.partition(":")
    nth, _, kind = rest.partition(":")
    if not (point and nth.isdecimal() and (kind in {"kill", "hang"} or hasattr(errno, kind))):
        raise FaultError(
            f"{VARIABLE} must be point:nth:kind (record.committed:3:kill), not {text!r}"
        )
    return point, int(nth), kind


def _inject(point: str, kind: str) -> None:
    if seen := os.environ.get(JOURNAL):
        descriptor = os.open(seen, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{point}:{kind}\n".encode())
        os.close(descriptor)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while kind == "hang":
        time.sleep(60)
    number = int(getattr(errno, kind))
    raise OSError(number, os.strerror(number), point)
