"""`archscout resume`: goes on with a study as it was started."""

import argparse

from orchestrator.commands import studies
from orchestrator.config.resources import with_open_gpu
from orchestrator.errors import ExitCode
from orchestrator.home import Home
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Goes on with a study, or shows that it is finished."""
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        if row.state == "finished" and not ledger.requests(row.id):
            return studies.show_finished(ledger, row, home, terminal)
        config = studies.locate_config(ledger, row, home)
        config = with_open_gpu(config).at_address(options.address)
    from orchestrator.commands import run_search  # noqa: PLC0415 - loads torch

    return run_search.search(config, home, terminal, resumed=True)
