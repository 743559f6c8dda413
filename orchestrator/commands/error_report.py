"""Turn an exception that ended a command into a message and an exit code."""

import errno
import os
import tempfile
import time
import traceback
from collections.abc import Mapping

from orchestrator.errors import ArchscoutError, CommandError, ExitCode, format_path, sanitize
from orchestrator.file_permissions import opener
from orchestrator.home import Home

LOG_PREFIX = "error-"
"""Start of the names of internal errors' logs."""
_MAX_IN_MESSAGE = 5
"""Number of faulty files that a message itself can name."""


def describe(error: BaseException, home: Home) -> tuple[str, ExitCode]:
    """Return the message and the exit code of an exception.

    Anything but an `ArchscoutError`, an interrupt or a full disk is an internal error: its
    traceback goes to a private log.

    Args:
        error: The exception that ended the command.
        home: Folder of the log; it also masks passwords.
    """
    if isinstance(error, ArchscoutError) and error.exit_code is not ExitCode.INTERNAL:
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", ExitCode.INTERRUPTED
    if isinstance(error, SystemExit):
        text = f"your own Python ends the program (SystemExit: {error.code}); let it raise instead"
        return text, ExitCode.INPUT
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        where = f" at {format_path(error.filename)}" if error.filename else ""
        return f"no space left{where}; free some, then resume the study", ExitCode.INTERRUPTED
    return _log_internal_error(error, home), ExitCode.INTERNAL


def _log_internal_error(error: BaseException, home: Home) -> str:
    """Write the traceback to a log and return a message of one line."""
    text = f"internal error: {type(error).__name__}: {sanitize(home.redact(str(error)), 200)}"
    log = home.logs / f"{LOG_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        home.create()
        log.parent.mkdir(mode=0o700, exist_ok=True)
        with open(log, "w", encoding="utf-8", errors="backslashreplace", opener=opener) as file:
            file.write(home.redact("".join(traceback.format_exception(error))))
    except (OSError, CommandError) as no_log:
        return f"{text} (no log could be written to {format_path(log)}: {no_log})"
    return f"{text}. The traceback is in {format_path(log)}; please report it"


def list_files(files: Mapping[str, str]) -> str:
    """Write all faulty files to a temporary list and return the sentence that names it.

    Args:
        files: Reason by file name.

    Returns:
        An empty string if the message itself names all of them, or if the list cannot be written.
    """
    if len(files) <= _MAX_IN_MESSAGE:
        return ""
    lines = [f"{sanitize(name, 1000)}\t{sanitize(reason)}\n" for name, reason in files.items()]
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="archscout-files-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.writelines(lines)
    except OSError:
        return ""
    return f"; all {len(files)} are listed in {format_path(file.name)}"
