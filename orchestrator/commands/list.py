"""`archscout list`: show all studies, oldest first."""

import argparse
from datetime import datetime

from orchestrator.commands import studies
from orchestrator.commands.steer import request_log
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ExitCode
from orchestrator.formatting import format_duration, format_number, format_table
from orchestrator.home import Home
from orchestrator.objective import best
from orchestrator.terminal import Terminal
from orchestrator.trial import Trial


def run(_options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print each study with its state and its best value."""
    terminal.document["studies"] = []
    with studies.open_ledger(home) as ledger:
        rows = ledger.studies() if ledger else []
        if ledger is None or not rows:
            terminal.print(studies.no_studies(home))
            return ExitCode.DONE
        cells = []
        for row in rows:
            trials = ledger.trials(row.id)
            value = _best(studies.stored_config(row), trials)
            created = datetime.fromtimestamp(row.created).astimezone()
            terminal.document["studies"].append(
                {
                    "name": row.name,
                    "state": row.state,
                    "space": row.space_name,
                    "trials": len(trials),
                    "best": value,
                    "spent_s": row.spent_s,
                    "created": created.isoformat(timespec="seconds"),
                }
            )
            shown = "" if value is None else ", ".join(map(format_number, value))
            when = created.strftime("%Y-%m-%d %H:%M")
            cells.append(
                [
                    row.name,
                    request_log.state_of(ledger, row),
                    row.space_name,
                    str(len(trials)),
                    shown,
                    format_duration(row.spent_s),
                    when,
                ]
            )
    head = ["study", "state", "space", "trials", "best", "time", "started"]
    terminal.print(format_table(head, cells, right=("trials", "best", "time")))
    return ExitCode.DONE


def _best(config: StudyConfig | None, trials: list[Trial]) -> list[float] | None:
    """Return the values of the best complete trial; None if there is none."""
    winner = None if config is None else best(trials, config.objectives)
    return list(winner.values) if winner and winner.values else None
