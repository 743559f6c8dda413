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
from orchestrator.exit_codes import CommandError, ExitCode
from orchestrator.freeing import Portion
from orchestrator.home import Home
from orchestrator.problems import place
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
    orphans: Sequence[Path] = ()
    """Folders of studies that are gone."""
    logs: Sequence[Path] = ()
    """Of our own defects, old ones."""
    store: "StudyStore | None" = None
    runs: "Sequence[ShownRun]" = ()
    """Of studies that are gone."""
    left: Sequence[Path] = ()
    """Folders named after no study of this ledger, which may be another's."""

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
        CommandError: There is no study of the name given, or no ledger to say what is needed.
        LeaseHeld: A driver runs it.
        StoreUnavailable: MLflow does not answer.
    """
    prepare_process()
    from orchestrator.tracking import cleaning  # noqa: PLC0415 - loads mlflow

    with studies.reading(home) as ledger, cleaning.answering():
        if options.name is None:
            if ledger is None:
                raise _no_ledger(home)
            known = ledger
            store = cleaning.StudyStore.open(home.tracking_uri, home.artifacts, ledger.identity)
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
        for path in found.left:
            terminal.remark(f"stays, for it may be another ledger's: {path}")
        for outside in sorted({str(run.outside) for run in found.runs if run.outside}):
            terminal.remark(f"stays, for it lies outside of this home: {outside}")
        if options.yes:
            _remove(found, known, home)
            terminal.tell("Deleted.")
        elif any(portion.count for portion in portions):
            terminal.tell("\nNothing was deleted. To do it, add --yes.")
    return ExitCode.DONE


def _no_ledger(home: Home) -> CommandError:
    return CommandError(
        f"there is no ledger in {place(home.folder)}, so nothing says what is still needed. If its "
        "studies are in another one, name it in ARCHSCOUT_LEDGER as their search did",
        ExitCode.REFUSED,
    )


def _everywhere(ledger: "Ledger", home: Home, store: "StudyStore | None") -> _Found:
    """What may go of all studies, and of those that the ledger had and does not have any more."""
    from orchestrator.ledger import LeaseHeld  # noqa: PLC0415 - loads sqlalchemy

    rows, identity = ledger.studies(), ledger.identity
    checkpoints = {}
    for row in rows:
        with suppress(LeaseHeld):  # whoever runs a study cleans up after it
            ledger.require_free(row)
            checkpoints[row.name] = _superfluous(ledger, row, home)
    runs: Sequence[ShownRun] = ()
    alone = home.is_sole_ledger(identity) and not (store and store.has_others())
    if store is not None:
        known = {(row.name, row.created) for row in rows}
        gone = store.runs(lambda study, created: (study, created) not in known, unmarked=alone)
        needed = store.needed(gone)
        runs = [run for run in gone if run.run_id not in needed]
    folders = list(_unknown(home, {row.name for row in rows}))
    owners = home.owners
    ours = [path for path in folders if owners.is_sole(identity, path.name, unmarked=alone)]
    return _Found(
        checkpoints=checkpoints,
        orphans=ours,
        left=[path for path in folders if path not in ours],
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
        owned=home.owns_checkpoints and home.is_sole_owner(ledger.identity, row.name),
    )


def _unknown(home: Home, known: set[str]) -> Iterator[Path]:
    """Folders named after studies that the ledger does not have."""
    for folder in (home.checkpoints, home.logs) if home.owns_checkpoints else (home.logs,):
        for path in within(folder):
            if isinstance(path, Path) and path.is_dir() and path.name not in known:
                yield path


def _remove(found: _Found, ledger: "Ledger", home: Home) -> None:
    from orchestrator.ledger import Holder  # noqa: PLC0415 - loads sqlalchemy

    for name, paths in found.checkpoints.items():
        if paths:
            # Held meanwhile, so that nobody begins to train from what is being deleted.
            _, lease = ledger.open_study(
                name=name, config_json=None, holder=Holder.of_this_process()
            )
            freeing.remove(paths, home.checkpoints)
            ledger.release(lease)
    if found.store is not None:
        found.store.remove(found.runs)
    for root in (home.checkpoints, home.logs):
        freeing.remove((path for path in found.orphans if path.parent == root), root)
    freeing.remove(found.logs, home.logs)
    for name in {path.name for path in found.orphans}:
        home.owners.release(ledger.identity, name)
