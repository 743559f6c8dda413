"""`archscout search`: from a config to a leaderboard."""

import argparse
from collections.abc import Iterator

from orchestrator.commands import studies
from orchestrator.config import DataConfig, StudyConfig
from orchestrator.config_file import Override, differences, load
from orchestrator.exit_codes import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.problems import Problem, ProblemsError
from orchestrator.terminal import Terminal
from workers.data.spec import NO_DATA


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Starts a study, goes on with it, or shows that it is finished."""
    config = load(options.config, overrides(options))
    if options.dry_run:
        from orchestrator.commands import dry_run  # noqa: PLC0415 - loads torch

        return dry_run.show(config, terminal)
    with studies.reading(home) as ledger:
        row = ledger.study(config.name) if ledger else None
        if ledger is not None and row is not None:
            stored = studies.config_of(row)
            config = _as_stored(config, stored)
            _refuse_other(stored, config)
            if row.state == "finished" and not ledger.requests(row.id):
                return studies.show_finished(ledger, row, home, terminal)
    from orchestrator.commands import searching  # noqa: PLC0415 - loads torch

    return searching.search(config, home, terminal, goes_on=row is not None)


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


def _as_stored(config: StudyConfig, stored: StudyConfig | None) -> StudyConfig:
    """Return the config with the data set that earlier releases recorded where none is named."""
    unnamed = config.data.source == NO_DATA
    if unnamed and stored is not None and stored.data == DataConfig():
        return config.model_copy(update={"data": stored.data})
    return config


def _refuse_other(stored: StudyConfig | None, config: StudyConfig) -> None:
    """Refuses a config under the name of a study that was started from another.

    Raises:
        CommandError: They differ.
    """
    if stored == config.at_address(None):
        return
    lines = ["  it was started by another release, whose config cannot be compared"]
    if stored is not None:
        lines = [f"  {line}" for line in differences(stored, config.at_address(None))]
    raise CommandError(
        "\n".join(
            [
                f"study '{config.name}' exists with another config:",
                *lines,
                f"Give this one another name (--name), or go on with the stored one: "
                f"archscout resume {config.name}",
            ]
        ),
        ExitCode.INPUT,
    )
