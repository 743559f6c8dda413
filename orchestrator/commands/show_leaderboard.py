"""`archscout leaderboard`: a study's best trials."""

import argparse

from orchestrator.commands import studies
from orchestrator.exit_codes import ExitCode
from orchestrator.home import Home
from orchestrator.leaderboard import leaderboard
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Shows the best trials of a study."""
    with studies.reading(home) as opened:
        ledger, row = studies.found(opened, options.name, home)
        board = leaderboard(studies.readable_config(row), row.state, ledger.trials(row.id))
    terminal.answer |= board.to_dict(options.top)
    terminal.tell(board.text(options.top))
    return ExitCode.DONE
