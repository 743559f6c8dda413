"""`archscout ui`: open MLflow on the studies, for this machine only."""

import argparse

from orchestrator.commands import studies
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.terminal import Terminal
from orchestrator.tracking.server import serve


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Serve MLflow until it is interrupted.

    Raises:
        CommandError: There are no studies.
        ServerError: The server did not start.
    """
    with studies.open_ledger(home) as ledger:
        rows = ledger.studies() if ledger else []
        newest = studies.stored_config(rows[-1]) if rows else None
    if not rows:
        raise CommandError(studies.no_studies(home), ExitCode.INPUT)
    experiment = None
    if newest is not None:
        experiment = newest.tracking.experiment or f"archscout/{newest.name}"
    serve(
        home=home.folder,
        tracking_uri=home.tracking_uri,
        experiment=experiment,
        port=options.port,
        say=terminal.print,
    )
    return ExitCode.DONE
