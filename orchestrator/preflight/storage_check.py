"""Check that checkpoints can be written and read, before anything else is done.

Leaves nothing behind and needs no study.
"""

from orchestrator.errors import CommandError, ExitCode, format_path
from orchestrator.home import Home
from orchestrator.network_filesystem import LEDGER_SERVER, MLFLOW_SERVER, refuse_network_disk
from orchestrator.timeouts import NoAnswerError, call_with_timeout
from orchestrator.tracking.addresses import sqlite_file
from workers.redaction import redact
from workers.storage import Storage

TIMEOUT_S = 20.0
"""Timeout for a store's answer; their libraries retry for minutes."""


def require_checkpoints(home: Home) -> None:
    """Check the home and the storage of checkpoints.

    Raises:
        CommandError: They cannot be written or read, or other users can.
    """
    home.refuse_public()
    _refuse_network_disks(home)
    folder = home.checkpoints
    reason = _access_error(folder)
    if reason is not None and home.owns_checkpoints:
        raise CommandError(
            f"--home {format_path(home.folder)}: cannot be created ({reason}); give a folder "
            "that you may write",
            ExitCode.INPUT,
        )
    if reason is not None:
        raise CommandError(
            f"checkpoints cannot go to {format_path(redact(str(folder)))}: "
            f"{redact(reason)}. Name a folder or an fsspec URL that you may write in "
            "ARCHSCOUT_CHECKPOINTS, or unset it",
            ExitCode.INPUT,
        )


def _refuse_network_disks(home: Home) -> None:
    """Refuse databases on a network file system, before any is created.

    Raises:
        NetworkFilesystemError: One would be on such a file system.
    """
    given = {
        ("the ledger", LEDGER_SERVER): home.ledger_url,
        ("MLflow's database", MLFLOW_SERVER): home.tracking_uri,
    }
    for (what, instead), url in given.items():
        if (file := sqlite_file(url)) is not None:
            refuse_network_disk(file, what, instead)


def _access_error(folder: Storage) -> str | None:
    """Return the reason why no checkpoint can be written there; None if one can."""
    try:
        return call_with_timeout(folder.access_error, timeout_s=TIMEOUT_S)
    except NoAnswerError as error:
        return str(error)
