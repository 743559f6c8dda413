"""`archscout db`: upgrade, check or back up the database of the ledger."""

import argparse
import time
from pathlib import Path

from orchestrator.commands import studies
from orchestrator.errors import CommandError, ExitCode, format_path
from orchestrator.home import Home
from orchestrator.ledger import Ledger, maintenance
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Run one of the three actions.

    Raises:
        CommandError: There is no ledger, or the action takes no file.
        LedgerError: The ledger cannot be used.
    """
    if not home.has_ledger:
        text = f"there is no ledger. {studies.no_studies(home)}"
        raise CommandError(text, ExitCode.INPUT)
    if options.file is not None and options.action != "backup":
        raise CommandError(f"archscout db {options.action} takes no FILE", ExitCode.INPUT)
    if options.action == "backup":
        return _back_up(options.file, home, terminal)
    return _upgrade(home, terminal) if options.action == "upgrade" else _check(home, terminal)


def _upgrade(home: Home, terminal: Terminal) -> ExitCode:
    before = maintenance.check(home.ledger_url).revision
    with Ledger.open(home.ledger_url) as ledger:
        name = ledger.name
    after = maintenance.check(home.ledger_url).revision
    terminal.document |= {"ledger": name, "from": before, "to": after}
    result = f"upgraded from {before} to" if before != after else "is already at"
    terminal.print(f"{name} {result} revision {after}.")
    return ExitCode.DONE


def _check(home: Home, terminal: Terminal) -> ExitCode:
    found = maintenance.check(home.ledger_url)
    terminal.document |= {
        "ledger": found.name,
        "revision": found.revision,
        "newest": found.newest,
        "problems": list(found.problems),
    }
    for problem in found.problems:
        terminal.print(problem)
    if found.problems:
        return ExitCode.REFUSED
    if found.revision != found.newest:
        terminal.print(
            f"{found.name} is at revision {found.revision}, this release at {found.newest}: "
            "upgrade it before the check (archscout db upgrade)"
        )
        return ExitCode.REFUSED
    terminal.print(f"{found.name} is intact: all {len(maintenance.INVARIANTS)} invariants hold.")
    return ExitCode.DONE


def _back_up(file: str | None, home: Home, terminal: Terminal) -> ExitCode:
    name = f"ledger-{time.strftime('%Y%m%d-%H%M%S')}.db"
    target = Path(file).expanduser().absolute() if file else home.folder / "backups" / name
    if file is None:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = maintenance.back_up(home.ledger_url, target)
    terminal.document |= {"backup": str(target), "bytes": size}
    terminal.print(f"{size:,} bytes in {format_path(target)}")
    return ExitCode.DONE
