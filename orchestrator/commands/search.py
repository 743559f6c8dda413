"""`archscout search`: from a config to a leaderboard."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.commands import hints, studies
from orchestrator.config.load import Override, differences, load
from orchestrator.config.resources import as_stored, with_stored_data
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode, Problem, ProblemsError
from orchestrator.home import Home
from orchestrator.study.moved_files import relocate, same_except_paths
from orchestrator.terminal import Terminal

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Starts a study, goes on with it, or shows that it is finished."""
    config = load(options.config, overrides(options))
    if options.dry_run:
        from orchestrator.commands import dry_run  # noqa: PLC0415 - loads torch

        return dry_run.show(config, terminal)
    with studies.open_ledger(home) as ledger:
        row = ledger.study(config.name) if ledger else None
        if ledger is not None and row is not None:
            stored = studies.stored_config(row)
            config = config if stored is None else with_stored_data(config, stored)
            _refuse_other(ledger, row, config, options, home)
            if row.state == "finished" and not ledger.requests(row.id):
                return studies.show_finished(ledger, row, home, terminal)
    from orchestrator.commands import run_search  # noqa: PLC0415 - loads torch

    return run_search.search(config, home, terminal, resumed=row is not None)


def overrides(options: argparse.Namespace) -> list[Override]:
    """What the command line changes in the config, in the order in which it counts.

    Raises:
        ProblemsError: Options cannot be read.
    """
    found: list[Override] = []
    problems: list[Problem] = []
    for key, text, option in _given(options):
        try:
            found.append(Override.parse(key, text, option))
        except ProblemsError as error:
            problems += error.problems
    if problems:
        raise ProblemsError(problems)
    return found


def _given(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Key, value and the option as typed."""
    for assignment in options.set:
        key, _, text = assignment.partition("=")
        yield key if "=" in assignment else "", text, "--set"
    short = {
        "name": "name",
        "trials": "stop.trials",
        "hours": "stop.hours",
        "engine": "engine.name",
        "address": "engine.address",
    }
    for option, key in short.items():
        value = getattr(options, option)
        if value is not None:
            yield key, value, f"--{option}"


def _words(options: argparse.Namespace) -> list[str]:
    """The file or preset and the options as they were given, except the name."""
    kept = [options.config]
    for key, text, option in _given(options):
        if key not in {"name", "warm_start"}:
            kept += [option, f"{key}={text}" if option == "--set" else text]
    return kept


def _refuse_other(
    ledger: "Ledger", row: "StudyRow", config: StudyConfig, options: argparse.Namespace, home: Home
) -> None:
    """Refuses a config under the name of a study that was started from another.

    Raises:
        CommandError: They differ.
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
    message += _ways(ledger, row, stored, config, options=options, home=home)
    raise CommandError(message, ExitCode.INPUT)


def _ways(
    ledger: "Ledger",
    row: "StudyRow",
    stored: StudyConfig | None,
    config: StudyConfig,
    *,
    options: argparse.Namespace,
    home: Home,
) -> str:
    """What may be done about it."""
    over = (
        None
        if stored is None
        else hints.exhausted_reason(stored, row.spent_s, ledger.trials(row.id))
    )
    if over is None and row.state == "finished":
        over = "there was nothing left to search"
    again = hints.search_command(
        stored or config,
        [known.name for known in ledger.studies()],
        home,
        config=config,
        words=_words(options),
        warm=stored is not None and over is not None,
    )
    if over is not None and stored is not None:
        again += hints.options_beyond_limits(stored, row.spent_s, ledger.trials(row.id), config)
    if over is not None:
        return (
            f"It is over ({over}), and neither limits nor resources of a study can be changed "
            f"yet. Search on under another name: {again}"
        )
    ways = f"Give this one another name: {again}"
    if stored is None or hints.is_running(ledger, row):
        return ways
    return f"{ways}\nor continue the stored one: {home.program} resume {row.name}"
