"""`archscout stop`: end one trial of a study; what it has measured counts."""

import argparse

from orchestrator.commands import studies
from orchestrator.commands.steer import requesting
from orchestrator.errors import ExitCode
from orchestrator.home import Home
from orchestrator.study.requests.stop import STOP, stop
from orchestrator.study.requests.view import StudyView
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Request the stop; a running trial's worker leaves between two batches.

    Raises:
        CommandError: There is no such study or trial, or the trial has ended.
    """
    answer = stop_trial(options.name, options.trial, home).answer
    terminal.document |= {"study": options.name, "trial": options.trial}
    terminal.document |= {"stopped": answer is not None, "was": answer and answer["was"]}
    if answer is None:
        terminal.print(requesting.still_open(options.name))
        return ExitCode.DONE
    reached = f"; its {answer['epoch']} epochs count" if answer["epoch"] else ""
    terminal.print(f"trial {options.trial} is stopped (it was {answer['was']}){reached}")
    return ExitCode.DONE


def stop_trial(name: str, trial: int, home: Home) -> requesting.Reply:
    """Request the stop of a trial.

    Raises:
        CommandError: There is no such study or trial, or the trial has ended.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        found = stop(StudyView.read(ledger, row.name), {"trial": trial}).answer
        requesting.require_accepted(row, found)
        return requesting.submit(ledger, row, STOP, {"trial": trial})
