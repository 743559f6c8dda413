"""`archscout sync`: shows a study in MLflow anew, from the first event, into the same runs."""

import argparse
from typing import TYPE_CHECKING

from orchestrator.commands import studies, verify
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.terminal import Terminal
from orchestrator.tracking import start_projector
from orchestrator.tracking.environment import prepare_process

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow

_DRAIN_S = 3600.0
"""How long all of it may take; progress is told, and a user may leave at any time."""


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Shows everything again and compares; what was shown already stays as it is.

    Raises:
        CommandError: There is no such study, or MLflow did not take all of it.
        LeaseHeldError: A driver runs it, and shows it.
        StoreUnavailableError: MLflow does not answer.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        studies.require_config(row)
        ledger.require_free(row)
        _forget(ledger, row, home)
        _show(row, home, terminal)
        return verify.compare(ledger, row, home, terminal)


def _forget(ledger: "Ledger", row: "StudyRow", home: Home) -> None:
    """Puts the cursor before the first event, and undeletes runs, while nobody projects."""
    prepare_process()
    from orchestrator.tracking.client import open_client  # noqa: PLC0415
    from orchestrator.tracking.deletion import mlflow_errors  # noqa: PLC0415 - loads mlflow
    from orchestrator.tracking.verification import restore  # noqa: PLC0415

    with studies.hold_projection(home, row.name), mlflow_errors():
        restore(open_client(home.tracking_uri), row, ledger.trials(row.id))
        ledger.show_anew(row.id)


def _show(row: "StudyRow", home: Home, terminal: Terminal) -> None:
    projector = start_projector(
        ledger_url=home.ledger_url, study=row.name, home=home.folder, tracking_uri=home.tracking_uri
    )
    try:
        shown = projector.drain(_DRAIN_S, lambda left: terminal.info(f"{left} events left to show"))
        reason = projector.reason
    finally:
        projector.close()
    if not shown:
        log = home.logs / row.name / "projector.log"
        why = f": {reason}" if reason else ""
        text = (
            f"MLflow did not take all of '{row.name}'{why} (see {log}). "
            "After mending, give the same command again"
        )
        raise CommandError(text, ExitCode.INTERRUPTED)
