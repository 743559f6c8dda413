"""`archscout ui`: MLflow on this home's studies, on this machine alone."""

import argparse

from orchestrator.commands import studies
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Serves MLflow until it is interrupted.

    Raises:
        CommandError: There is nothing to show.
        ServerError: The server did not start.
    """
    with studies.open_ledger(home) as ledger:
        rows = ledger.studies() if ledger else []
        newest = studies.stored_config(rows[-1]) if rows else None
    if not rows:
        raise CommandError(studies.no_studies(home), ExitCode.INPUT)
    from orchestrator.tracking.server import serve  # noqa: PLC0415 - not for what only reads

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
