"""`archscout verify`: whether MLflow shows what the ledger holds; every difference has a line."""

import argparse
from typing import TYPE_CHECKING

from orchestrator.commands import studies
from orchestrator.errors import ExitCode
from orchestrator.home import Home
from orchestrator.study.retention import bad_checkpoints
from orchestrator.terminal import Terminal
from orchestrator.tracking.environment import prepare_process

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow

_LINES = 50


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Compares the two and changes nothing.

    Raises:
        CommandError: There is no such study.
        StoreUnavailableError: MLflow does not answer.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        studies.require_config(row)
        return compare(ledger, row, home, terminal)


def compare(ledger: "Ledger", row: "StudyRow", home: Home, terminal: Terminal) -> ExitCode:
    """Tells every difference; REFUSED if there is one.

    Raises:
        StoreUnavailableError: MLflow does not answer.
    """
    prepare_process()
    from orchestrator.tracking.client import open_client  # noqa: PLC0415
    from orchestrator.tracking.deletion import mlflow_errors  # noqa: PLC0415 - loads mlflow
    from orchestrator.tracking.verification import (  # noqa: PLC0415
        Difference,
        differences,
        missing_files,
    )

    trials, promotions = ledger.trials(row.id), ledger.promotions.all()
    objectives = studies.require_config(row).objectives
    with mlflow_errors():
        client = open_client(home.tracking_uri)
        found = list(differences(client, row, trials))
        found += missing_files(client, row, trials, promotions)
    found += [
        Difference(where=f"trial {trial.number}", what="checkpoint", recorded=name, shown=there)
        for trial, name, there in bad_checkpoints(trials, objectives, home.checkpoints / row.name)
    ]
    left = len(ledger.events(row.id, ledger.cursor(row.id)))
    terminal.document |= {
        "study": row.name,
        "trials": len(trials),
        "measurements": sum(len(trial.measurements) for trial in trials),
        "differences": [difference.to_dict() for difference in found],
        "events_not_shown": left,
    }
    if not found:
        terminal.print(
            f"MLflow shows all {len(trials)} trials of '{row.name}' as recorded, and their files "
            "are there."
        )
        return ExitCode.DONE
    for difference in found[:_LINES]:
        terminal.print(str(difference))
    if len(found) > _LINES:
        terminal.print(f"and {len(found) - _LINES} more (--json lists all)")
    terminal.print(f"{len(found)} differences between the ledger and MLflow or the disk.")
    terminal.info(f"If no search is running: {home.program} sync {row.name}")
    return ExitCode.REFUSED
