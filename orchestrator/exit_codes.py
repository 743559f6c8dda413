"""How a command ended, as its exit status says it."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The closed set of exit statuses."""

    DONE = 0
    DEFECT = 1
    """A mistake of ours; the message says where the log lies."""
    INPUT = 2
    """A mistake in the input; nothing was done."""
    REFUSED = 3
    """A gate, another driver's lease, or a lost compare-and-set."""
    INTERRUPTED = 4
    """Stopped by a signal, a full disk or a lost cluster; can be resumed."""
    BROKEN_OFF = 5
    """Too many trials failed."""


class CommandError(Exception):
    """A command ends here, with a message for the user and an exit status."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code
