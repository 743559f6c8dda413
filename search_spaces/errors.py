"""Base class of all exceptions that archscout raises, and the exit codes they carry."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of the command line: a closed set."""

    DONE = 0
    INTERNAL = 1
    """An internal error; the message names its log."""
    INPUT = 2
    """Invalid input; nothing was done."""
    REFUSED = 3
    """Refused by a gate, another driver's lease, or a lost compare-and-set."""
    INTERRUPTED = 4
    """Stopped by a signal, a full disk or a lost cluster; can be resumed."""
    ABORTED = 5
    """Too many trials failed."""


class ArchscoutError(Exception):
    """Base class of all exceptions of archscout.

    The command line prints the message and exits with `exit_code`. With `ExitCode.INTERNAL` it
    reports an internal error and writes the traceback to a log instead.

    Examples:
        >>> class LabelError(ArchscoutError, ValueError):
        ...     exit_code = ExitCode.INPUT
    """

    exit_code: ExitCode = ExitCode.INTERNAL
