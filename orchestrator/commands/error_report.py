"""Which exceptions are not our defects: mistakes in the input, refusals, and the world's faults.

Knows the exceptions of every part; loaded only when one was raised.
"""

import errno
import os
import tempfile
import time
import traceback
from collections.abc import Mapping

from orchestrator.errors import CommandError, ExitCode, clean, place
from orchestrator.file_permissions import opener
from orchestrator.home import Home

_BY_NAME = {
    # Mistakes in the input.
    "DataError": ExitCode.INPUT,
    "UserFileError": ExitCode.INPUT,
    "UnknownNameError": ExitCode.INPUT,
    "SpaceError": ExitCode.INPUT,
    "DomainError": ExitCode.INPUT,
    "SeedPointError": ExitCode.INPUT,
    "StudyConflictError": ExitCode.INPUT,
    "UnknownStudyError": ExitCode.INPUT,
    "SchemaUnknownError": ExitCode.INPUT,
    "ResourcesTooLargeError": ExitCode.INPUT,
    "NodesUnfitError": ExitCode.INPUT,
    "NoShortFolderError": ExitCode.INPUT,
    "ServerError": ExitCode.INPUT,
    "NetworkFilesystemError": ExitCode.INPUT,
    "StoreAddressError": ExitCode.INPUT,
    # Somebody else has it.
    "LeaseHeldError": ExitCode.REFUSED,
    "LeaseLostError": ExitCode.REFUSED,
    "StudyNeededError": ExitCode.REFUSED,
    "PromotionHeldError": ExitCode.REFUSED,
    "AliasMovedError": ExitCode.REFUSED,
    "PathOutsideError": ExitCode.REFUSED,
    # A gate.
    "PromotionRefusedError": ExitCode.REFUSED,
    # The world.
    "EngineLostError": ExitCode.INTERRUPTED,
    "StoreUnavailableError": ExitCode.INTERRUPTED,
    "StorageUnreachableError": ExitCode.INTERRUPTED,
    "LedgerUnavailableError": ExitCode.INTERRUPTED,
    "StudyGoneError": ExitCode.INTERRUPTED,
    "LedgerError": ExitCode.INPUT,
}
_MAX_IN_MESSAGE = 5
"""Files at fault that a message names itself."""
_OURS = ("orchestrator.", "workers.", "search_spaces.")


def known(error: BaseException) -> tuple[str, ExitCode] | None:
    """Message and exit status of an exception that is no defect of ours; None for a defect."""
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_NAME and kind.__module__.startswith(_OURS):
            return str(error), _BY_NAME[kind.__name__]
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        where = f" at {place(error.filename)}" if error.filename else ""
        return f"no space left{where}; free some, then resume the study", ExitCode.INTERRUPTED
    return None


def defect(error: BaseException, home: Home) -> str:
    """Return one line on an internal error; its traceback goes to a private log, masked."""
    what = f"archscout failed: {type(error).__name__}: {clean(home.scrub(str(error)), 200)}"
    log = home.logs / f"defect-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        home.create()
        log.parent.mkdir(mode=0o700, exist_ok=True)
        with open(log, "w", encoding="utf-8", errors="backslashreplace", opener=opener) as file:
            file.write(home.scrub("".join(traceback.format_exception(error))))
    except (OSError, CommandError) as no_log:
        return f"{what} (no log could be written to {place(log)}: {no_log})"
    return f"{what}. This is a defect of archscout; the log is {place(log)}"


def list_of(files: Mapping[str, str]) -> str:
    """Where all files at fault are listed; empty where the message has them, or no disk takes them.

    Args:
        files: Why each is at fault, by name.
    """
    if len(files) <= _MAX_IN_MESSAGE:
        return ""
    lines = [f"{clean(name, 1000)}\t{clean(reason)}\n" for name, reason in files.items()]
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="archscout-files-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.writelines(lines)
    except OSError:
        return ""
    return f"; all {len(files)} are listed in {place(file.name)}"
