"""`archscout pause`: stop the driver of a study as the first Ctrl-C would; its trials wait."""

import argparse
import time

from orchestrator.commands import hints, studies
from orchestrator.commands.steer import requesting
from orchestrator.errors import ExitCode
from orchestrator.home import Home
from orchestrator.ledger import LeaseHeldError, Ledger, StudyRow
from orchestrator.study.requests.pause import PAUSE
from orchestrator.terminal import Terminal

_TIMEOUT_S = 30.0
"""Longest wait for a driver that has stopped its trials to exit."""
_POLL_INTERVAL_S = 0.25


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Request the pause, and wait until the driver has exited.

    Raises:
        CommandError: There is no such study.
    """
    paused = pause(options.name, home)
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        running = hints.is_running(ledger, row)
    terminal.document |= {"study": row.name, "paused": paused, "running": running}
    resume = f"{home.program} resume {row.name}"
    if running:
        terminal.print(f"Requested; '{row.name}' pauses once its driver is less busy.")
    elif paused:
        terminal.print(f"'{row.name}' is paused. Continue: {resume}")
    elif row.state == "finished":
        terminal.print(f"'{row.name}' is not running: it is finished")
    else:
        terminal.print(f"'{row.name}' is not running. Continue: {resume}")
    return ExitCode.DONE


def pause(name: str, home: Home) -> bool:
    """Request the pause of a study, and wait until its driver has exited.

    Returns:
        True if a driver has stopped for it; False if none ran, or it has not answered in time.

    Raises:
        CommandError: There is no such study.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        if (driver := _driver(ledger, row)) is None:
            return False
        reply = requesting.submit(ledger, row, PAUSE, {"driver": driver})
        until = time.monotonic() + _TIMEOUT_S
        while reply.answer and _driver(ledger, row) == driver and time.monotonic() < until:
            time.sleep(_POLL_INTERVAL_S)
        return reply.answer is not None and bool(reply.answer["paused"])


def _driver(ledger: Ledger, row: StudyRow) -> str | None:
    """Return the holder of the study's lease; None if no driver runs it."""
    try:
        ledger.require_free(row)
    except LeaseHeldError as error:
        return error.holder
    return None
