"""`archscout extend`: give a study more trials or hours, and continue its search."""

import argparse
import uuid
from typing import TYPE_CHECKING

from orchestrator.commands import hints, studies
from orchestrator.commands.steer import requesting
from orchestrator.config.resources import as_stored, with_open_gpu
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.study.moved_files import relocate
from orchestrator.study.requests.extend import EXTEND, absolute_payload, extends
from orchestrator.terminal import Terminal

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Extend a study; the driver that runs it continues, or this process does.

    Raises:
        CommandError: There is no such study, or it would start no more trials.
    """
    config = extend(options.name, home, terminal, trials=options.trials, hours=options.hours)
    if config is None:
        return ExitCode.DONE
    return start(config.at_address(options.address), home, terminal, resumed=True)


def start(
    config: StudyConfig, home: Home, terminal: Terminal, *, resumed: bool, dry: bool = False
) -> ExitCode:
    """Run a search, or show what would run; a finished study needs no torch."""
    from orchestrator.commands import run_search  # noqa: PLC0415 - loads torch

    if dry:
        return run_search.dry_run(config, terminal)
    return run_search.search(config, home, terminal, resumed=resumed)


def extend(
    name: str, home: Home, terminal: Terminal, *, trials: int | None, hours: float | None
) -> StudyConfig | None:
    """Add trials or hours to the limits of a study.

    Args:
        name: The study's name.
        home: Home of the studies.
        terminal: Shows the new limits.
        trials: Trials to add.
        hours: Hours to add.

    Returns:
        The config to continue with; None if a driver runs the study and continues it.

    Raises:
        CommandError: There is no such study, or it would start no more trials.
    """
    if trials is None and hours is None:
        text = f"give what to add to '{name}': --trials +K or --hours +H"
        raise CommandError(text, ExitCode.INPUT)
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        if not hints.is_running(ledger, row):
            config = studies.locate_config(ledger, row, home)
            studies.require_unchanged(ledger, row, config, home, terminal)
        payload = {"trials": trials, "hours": hours, "operation": uuid.uuid4().hex}
        reply = requesting.submit(ledger, row, EXTEND, payload)
        ledger, row = studies.find_study(ledger, name, home)
        config = studies.locate_config(ledger, row, home)
    _show(reply, config, terminal)
    return None if reply.running else with_open_gpu(config)


def raise_limits(
    ledger: "Ledger", row: "StudyRow", config: StudyConfig, home: Home, terminal: Terminal
) -> requesting.Reply | None:
    """Give a study the limits and resources of a config that extends it.

    Returns:
        The reply to the request; None, with nothing done, if the config does not extend the study.

    Raises:
        CommandError: It would start no more trials.
        LeaseHeldError: A driver runs it, whose resources cannot change.
    """
    stored = studies.stored_config(row)
    if stored is None:
        return None
    stored = relocate(stored, ledger, row, home)
    config = as_stored(config.at_address(None), stored)
    if not extends(stored, config):
        return None
    if stored.resources != config.resources:
        ledger.require_free(row)
    reply = requesting.submit(ledger, row, EXTEND, absolute_payload(config))
    _show(reply, config, terminal)
    return reply


def _show(reply: requesting.Reply, config: StudyConfig, terminal: Terminal) -> None:
    """Print the new limits, and who continues the search."""
    limits = config.stop.model_dump(exclude_none=True)
    answered = reply.answer is not None
    terminal.document |= {"study": config.name, "stop": limits, "answered": answered}
    if not answered:
        terminal.print(requesting.still_open(config.name))
        return
    text = ", ".join(f"{name} {value:g}" for name, value in limits.items())
    terminal.print(f"'{config.name}' is extended, now until {text}.")
    if reply.running:
        terminal.info("It is running and continues.")
