"""`archscout search` and `archscout resume`: start or continue a study."""

import argparse
import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.argument_types import assignments
from orchestrator.commands import hints, studies
from orchestrator.commands.steer import extend
from orchestrator.config.load import (
    Override,
    differences,
    load,
    locating_edits,
)
from orchestrator.config.resources import as_stored, with_open_gpu, with_stored_data
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.study.limits import exhausted_reason
from orchestrator.study.moved_files import relocate, same_except_paths
from orchestrator.study.requests.edit import edits
from orchestrator.terminal import Terminal

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow

_SHORTHANDS = {
    "name": "name",
    "trials": "stop.trials",
    "hours": "stop.hours",
    "engine": "engine.name",
    "address": "engine.address",
}
"""Keys of the config by the option that sets them."""


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Start a study, continue it, or show the result of a finished one."""
    changes = overrides(options)
    config, row = load(options.config, changes), None
    if not options.dry_run:
        with studies.open_ledger(home) as ledger:
            row = ledger.study(config.name) if ledger else None
            if ledger is not None and row is not None:
                stored = studies.stored_config(row)
                config = config if stored is None else with_stored_data(config, stored)
                config = studies.with_requested_changes(ledger, row, config, home)
                reply = extend.raise_limits(ledger, row, config, home, terminal)
                if reply is not None and reply.running:
                    return ExitCode.DONE
                row = ledger.study(config.name) or row
                _refuse_other(ledger, row, config, options, home)
                if row.state == "finished" and not ledger.requests(row.id):
                    return studies.show_finished(ledger, row, home, terminal)
    with locating_edits(options.config, changes):
        return extend.start(config, home, terminal, resumed=row is not None, dry=options.dry_run)


def resume(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Continue a study with its stored config, or show the result of a finished one."""
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        if row.state == "finished" and not ledger.requests(row.id):
            return studies.show_finished(ledger, row, home, terminal)
        config = studies.locate_config(ledger, row, home)
        config = with_open_gpu(config).at_address(options.address)
    return extend.start(config, home, terminal, resumed=True)


def overrides(options: argparse.Namespace) -> list[Override]:
    """Return the changes that the command line makes to the config; later ones win.

    Raises:
        ProblemsError: An option cannot be read.
    """
    return Override.parse_all(_assignments(options))


def _assignments(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and option as typed."""
    yield from assignments(options.set)
    for option, key in _SHORTHANDS.items():
        value = getattr(options, option)
        if value is not None:
            yield key, value, f"--{option}"


def _arguments(options: argparse.Namespace) -> list[str]:
    """Return the arguments as typed, without the name and the warm start."""
    kept = [options.config]
    for key, text, option in _assignments(options):
        if key not in {"name", "warm_start"}:
            kept += [option, f"{key}={text}" if option == "--set" else text]
    return kept


def _refuse_other(
    ledger: "Ledger", row: "StudyRow", config: StudyConfig, options: argparse.Namespace, home: Home
) -> None:
    """Refuse a config under the name of a study that was started with another one.

    Raises:
        CommandError: The configs differ.
    """
    stored, config = studies.stored_config(row), config.at_address(None)
    if stored is not None:
        stored = relocate(stored, ledger, row, home)
        config = as_stored(config, stored)
        if same_except_paths(stored, config):
            return
    if stored is None:
        text = "  it was started by another release, whose config cannot be compared"
    else:
        text = "\n".join(f"  {line}" for line in differences(stored, config))
    message = f"study '{row.name}' exists with another config:\n{text}\n"
    message += _suggestion(ledger, row, stored, config, options=options, home=home)
    if stored is not None and (changes := edits(stored, config)):
        assigned = (shlex.quote(f"{key}={json.dumps(new)}") for key, new in changes.items())
        command = " ".join(f"--set {each}" for each in assigned)
        message += f"\nor edit the stored one: {home.program} edit {row.name} {command}"
    raise CommandError(message, ExitCode.INPUT)


def _suggestion(
    ledger: "Ledger",
    row: "StudyRow",
    stored: StudyConfig | None,
    config: StudyConfig,
    *,
    options: argparse.Namespace,
    home: Home,
) -> str:
    """Return the command that runs the other config, and what continues the stored study."""
    trials, reason = ledger.trials(row.id), None
    if stored is not None:
        reason = exhausted_reason(stored, row.spent_s, trials)
    if reason is None and row.state == "finished":
        reason = "nothing is left to search"
    search = hints.search_command(
        stored or config,
        [known.name for known in ledger.studies()],
        home,
        config=config,
        arguments=_arguments(options),
        warm=stored is not None and reason is not None,
    )
    if reason is not None and stored is not None:
        search += hints.options_beyond_limits(stored, row.spent_s, trials, config)
    rename = f"Start another study: {search}"
    if reason is not None:
        known = stored or config
        more = hints.extend_command(known, row.spent_s, trials, home)
        rename = f"The study is finished ({reason}). {rename}"
        return rename if more is None else f"{rename}\nor extend the stored one: {more}"
    if stored is None or hints.is_running(ledger, row):
        return rename
    return f"{rename}\nor resume the stored one: {home.program} resume {row.name}"
