"""`archscout leaderboard`: a study's best trials."""

import argparse

from orchestrator.commands import studies
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.objective import PreferenceError, parse_preference
from orchestrator.study.leaderboard import leaderboard
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Shows the best trials of a study.

    Raises:
        CommandError: There is no such study, or the preference cannot be applied.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        config = studies.require_config(row)
        preferred = None if options.prefer is None else _preferred(options.prefer, config)
        board = leaderboard(config, row.state, ledger.trials(row.id), preferred)
    terminal.document |= board.to_dict(options.top)
    terminal.print(board.text(options.top))
    return ExitCode.DONE


def _preferred(text: str, config: StudyConfig) -> dict[str, float]:
    try:
        return parse_preference(text, config.objectives)
    except PreferenceError as error:
        raise CommandError(str(error), ExitCode.INPUT) from error
