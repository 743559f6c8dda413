"""Named points at which a test may break the program: `ARCHSCOUT_FAULT=point:nth:kind`.

The n-th time that the named point is passed, the process is killed, hangs, or meets an error of
the system. Without the variable a point costs less than a microsecond. Kinds: `kill`, `hang`, and
the names of `errno` (`ENOSPC`, `EIO`, ...).
"""

import errno
import os
import signal
import time
from collections import Counter

from search_spaces.errors import ArchscoutError

VARIABLE = "ARCHSCOUT_FAULT"
"""The environment variable that names a fault."""

JOURNAL = "ARCHSCOUT_FAULTS_SEEN"
"""Names a file to which each fault is appended as it strikes, so that coverage can be told."""

_passed: Counter[str] = Counter()


class FaultError(ArchscoutError, ValueError):
    """The variable does not name a fault."""


def fault(point: str) -> None:
    """Break here, if that is what the environment asks for.

    Args:
        point: The name of this place, in the form `part.what_was_done`.

    Raises:
        OSError: The environment asks for an error.
        FaultError: It asks for something unknown.
    """
    if VARIABLE not in os.environ:
        return
    named, nth, kind = _asked(os.environ[VARIABLE])
    if named != point:
        return
    _passed[point] += 1
    if _passed[point] == nth:
        _break(point, kind)


def _asked(text: str) -> tuple[str, int, str]:
    point, _, rest = text.partition(":")
    nth, _, kind = rest.partition(":")
    if not (point and nth.isdecimal() and (kind in {"kill", "hang"} or hasattr(errno, kind))):
        raise FaultError(f"{VARIABLE} is point:nth:kind, as record.committed:3:kill; not {text!r}")
    return point, int(nth), kind


def _break(point: str, kind: str) -> None:
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
