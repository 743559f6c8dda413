"""`archscout sync`: re-sync a study into its existing MLflow runs, from the first event on."""

import argparse

from orchestrator.commands import studies, verify
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.terminal import Terminal
from orchestrator.tracking import start_projector
from orchestrator.tracking.environment import prepare_process

_DRAIN_S = 3600.0
"""Longest duration; the command prints its progress and may be interrupted at any time."""


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Project all events again, then verify the study; what MLflow shows already stays.

    Raises:
        CommandError: There is no such study, or MLflow did not accept all of it.
        LeaseHeldError: A driver runs the study and projects it.
        StoreUnavailableError: MLflow does not answer.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        studies.require_config(row)
        ledger.require_free(row)
        _reset(ledger, row, home)
        _project(row, home, terminal)
        return verify.compare(ledger, row, home, terminal)


def _reset(ledger: Ledger, row: StudyRow, home: Home) -> None:
    """Move the cursor before the first event and restore deleted runs."""
    prepare_process()
    from orchestrator.tracking import client, deletion, verification  # noqa: PLC0415 - loads mlflow

    with studies.hold_projection(home, row.name), deletion.mlflow_errors():
        verification.restore(client.open_client(home.tracking_uri), row, ledger.trials(row.id))
        ledger.rewind(row.id)


def _project(row: StudyRow, home: Home, terminal: Terminal) -> None:
    projector = start_projector(
        ledger_url=home.ledger_url, study=row.name, home=home.folder, tracking_uri=home.tracking_uri
    )
    try:
        complete = projector.drain(_DRAIN_S, lambda left: terminal.info(f"{left} events left"))
        reason = projector.reason
    finally:
        projector.close()
    if not complete:
        log = home.logs / row.name / "projector.log"
        cause = f": {reason}" if reason else ""
        text = (
            f"MLflow does not show all of '{row.name}'{cause} (see {log}). "
            "After fixing the cause, run the same command again"
        )
        raise CommandError(text, ExitCode.INTERRUPTED)
