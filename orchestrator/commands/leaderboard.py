"""`archscout leaderboard`: show a study's best trials."""

import argparse

from orchestrator.commands import studies
from orchestrator.errors import ExitCode
from orchestrator.home import Home
from orchestrator.objective import parse_preference
from orchestrator.study.leaderboard import leaderboard
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print the best trials of a study.

    Raises:
        CommandError: There is no such study.
        PreferenceError: The preference cannot be applied.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        config = studies.require_config(row)
        preferred = None
        if options.prefer is not None:
            preferred = parse_preference(options.prefer, config.objectives)
        board = leaderboard(config, row.state, ledger.trials(row.id), preferred)
    terminal.document |= board.to_dict(options.top)
    terminal.print(board.text(options.top))
    return ExitCode.DONE
