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
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        found = stop(StudyView.read(ledger, row.name), {"trial": options.trial}).answer
        requesting.require_accepted(row, found)
        reply = requesting.submit(ledger, row, STOP, {"trial": options.trial})
    terminal.document |= {"study": row.name, "trial": options.trial, "stopped": False}
    if reply.answer is None:
        terminal.print(f"Requested; the driver of '{row.name}' is busy and will answer later.")
        return ExitCode.DONE
    terminal.document |= {"stopped": True, "was": reply.answer["was"]}
    epoch = reply.answer["epoch"]
    reached = f"; its {epoch} epochs count" if epoch else ""
    terminal.print(f"trial {options.trial} is stopped (it was {reply.answer['was']}){reached}")
    return ExitCode.DONE
