"""`archscout clean`: frees what no study, resume, promotion or registered model will ever read."""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import freeing
from orchestrator.commands import studies
from orchestrator.exit_codes import ExitCode
from orchestrator.freeing import Portion
from orchestrator.home import Home
from orchestrator.terminal import Terminal
from orchestrator.tracking.environment import prepare_process
from workers.folders import Folder, within

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow
    from orchestrator.tracking.cleaning import ShownRun, StudyStore

OLD_S = 7 * 86_400
"""Age after which the log of a defect is old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What may go."""

    checkpoints: Mapping[str, Sequence[Folder]]
    """By study."""
    orphans: Sequence[Folder] = ()
    """Folders of studies that are gone."""
    logs: Sequence[Path] = ()
    """Of our own defects, old ones."""
    store: "StudyStore | None" = None
    runs: "Sequence[ShownRun]" = ()
    """Of studies that are gone."""

    def portions(self) -> list[Portion]:
        own = [run.folder for run in self.runs if run.folder is not None]
        paths = [path for found in self.checkpoints.values() for path in found]
        return [
            Portion.of("checkpoints beyond those kept", paths),
            Portion.of("folders of deleted studies", self.orphans),
            Portion.of("runs of deleted studies", own, count=len(self.runs)),
            Portion.of("old logs of defects", self.logs),
        ]


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Shows what would go, and with `--yes` deletes it.

    Raises:
        CommandError: There is no study of the name given.
        LeaseHeld: A driver runs it.
        StoreUnavailable: MLflow does not answer.
    """
    prepare_process()
    from orchestrator.tracking import cleaning  # noqa: PLC0415 - loads mlflow

    with studies.reading(home) as ledger, cleaning.answering():
        if options.name is None:
            store = cleaning.StudyStore.open(home.tracking_uri)
            found = _everywhere(ledger, home, store)
        else:
            known, row = studies.found(ledger, options.name, home)
            known.require_free(row)
            found = _Found(checkpoints={row.name: _superfluous(known, row, home)})
        portions = found.portions()
        terminal.answer |= freeing.as_json(portions) | {"deleted": options.yes}
        terminal.tell(freeing.shown(portions))
        for path in found.orphans:
            terminal.remark(f"no study of this ledger: {path}")
        if options.yes:
            _remove(found, ledger)
            terminal.tell("Deleted.")
        else:
            terminal.tell("\nNothing was deleted. To do it, add --yes.")
    return ExitCode.DONE


def _everywhere(ledger: "Ledger | None", home: Home, store: "StudyStore | None") -> _Found:
    """What may go of all studies, and of those that the ledger does not have."""
    from orchestrator.ledger import LeaseHeld  # noqa: PLC0415 - loads sqlalchemy

    rows = ledger.studies() if ledger else []
    checkpoints = {}
    for row in rows:
        with suppress(LeaseHeld):  # whoever runs a study cleans up after it
            if ledger is not None:
                ledger.require_free(row)
                checkpoints[row.name] = _superfluous(ledger, row, home)
    runs: Sequence[ShownRun] = ()
    if store is not None and home.owns_stores:
        known = {(row.name, row.created) for row in rows}
        gone = store.runs(lambda study, created: (study, created) not in known)
        needed = store.needed(gone)
        runs = [run for run in gone if run.run_id not in needed]
    return _Found(
        checkpoints=checkpoints,
        orphans=list(_orphans(home, {row.name for row in rows})) if home.owns_stores else [],
        logs=[
            path
            for path in sorted(home.logs.glob("defect-*.log"))
            if time.time() - path.stat().st_mtime > OLD_S
        ],
        store=store,
        runs=runs,
    )


def _superfluous(ledger: "Ledger", row: "StudyRow", home: Home) -> list[Folder]:
    from orchestrator.retention import superfluous  # noqa: PLC0415 - not for what only reads

    config = studies.config_of(row)
    if config is None:  # another release's study: it knows what it needs
        return []
    return superfluous(
        home.checkpoints / row.name,
        ledger.trials(row.id),
        config.to_objectives(),
        needed={p.trial_uid for p in ledger.promotions.all() if p.trial_uid is not None},
        owned=home.owns_checkpoints,
    )


def _orphans(home: Home, known: set[str]) -> Iterator[Folder]:
    """Folders named after studies that the ledger does not have."""
    for folder in (home.checkpoints, home.logs) if home.owns_checkpoints else (home.logs,):
        for path in within(folder):
            if path.is_dir() and path.name not in known:
                yield path


def _remove(found: _Found, ledger: "Ledger | None") -> None:
    from orchestrator.ledger import Holder  # noqa: PLC0415 - loads sqlalchemy

    for name, paths in found.checkpoints.items():
        if ledger is not None and paths:
            # Held meanwhile, so that nobody begins to train from what is being deleted.
            _, lease = ledger.open_study(
                name=name, config_json=None, holder=Holder.of_this_process()
            )
            freeing.remove(paths)
            ledger.release(lease)
    if found.store is not None:
        found.store.remove(found.runs)
    freeing.remove([*found.orphans, *found.logs])
