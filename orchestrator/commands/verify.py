"""`archscout verify`: compare MLflow and the checkpoint files with the ledger."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.commands import studies
from orchestrator.errors import ExitCode
from orchestrator.home import Home
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.study.retention import bad_checkpoints
from orchestrator.terminal import Terminal
from orchestrator.tracking.environment import prepare_process
from orchestrator.trial import Trial

if TYPE_CHECKING:
    from orchestrator.tracking.verification import Difference

_LINES = 50


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print all differences and change nothing.

    Raises:
        CommandError: There is no such study.
        StoreUnavailableError: MLflow does not answer.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        studies.require_config(row)
        return compare(ledger, row, home, terminal)


def compare(ledger: Ledger, row: StudyRow, home: Home, terminal: Terminal) -> ExitCode:
    """Print all differences; return REFUSED if there are any.

    Raises:
        StoreUnavailableError: MLflow does not answer.
    """
    trials = ledger.trials(row.id)
    found = _differences(ledger, row, trials, home)
    left = len(ledger.events(row.id, ledger.cursor(row.id)))
    terminal.document |= {
        "study": row.name,
        "trials": len(trials),
        "measurements": sum(len(trial.own_measurements) for trial in trials),
        "differences": [difference.to_dict() for difference in found],
        "events_not_shown": left,
    }
    if not found:
        terminal.print(
            f"MLflow shows all {len(trials)} trials of '{row.name}' as recorded, and no file is "
            "missing."
        )
        return ExitCode.DONE
    for difference in found[:_LINES]:
        terminal.print(str(difference))
    if len(found) > _LINES:
        terminal.print(f"and {len(found) - _LINES} more (--json lists all)")
    terminal.print(f"{len(found)} differences between the ledger and MLflow or the files.")
    terminal.info(f"If no search is running: {home.program} sync {row.name}")
    return ExitCode.REFUSED


def _differences(
    ledger: Ledger, row: StudyRow, trials: Sequence[Trial], home: Home
) -> "list[Difference]":
    prepare_process()
    from orchestrator.tracking import client, deletion, verification  # noqa: PLC0415 - loads mlflow

    config = studies.require_config(row)
    with deletion.mlflow_errors():
        mlflow = client.open_client(home.tracking_uri)
        found = list(verification.differences(mlflow, row, trials))
        found += verification.missing_files(mlflow, row, trials, ledger.promotions.all())
    checkpoints = bad_checkpoints(
        trials, config.objectives, config.checkpoint, home.checkpoints / row.name
    )
    return found + [
        verification.Difference(
            where=f"trial {trial.number}", what="checkpoint", recorded=name, shown=problem
        )
        for trial, name, problem in checkpoints
    ]
