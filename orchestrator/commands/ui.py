"""`archscout ui`: MLflow on this home's studies, on this machine alone."""

import argparse

from orchestrator.commands import studies
from orchestrator.exit_codes import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.problems import place
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Serves MLflow until it is interrupted.

    Raises:
        CommandError: There is nothing to show, or the server does not start.
    """
    if not home.has_ledger:
        raise CommandError(studies.NOTHING_YET.format(place(home.folder)), ExitCode.INPUT)
    from orchestrator.tracking.server import serve  # noqa: PLC0415 - loads mlflow

    return ExitCode(serve(home, options.port, terminal))
