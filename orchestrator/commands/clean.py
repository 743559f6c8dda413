"""`archscout clean`: frees what no study, resume, promotion or registered model will ever read."""

import argparse
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.commands import disk_usage, studies
from orchestrator.commands.disk_usage import DiskUsage
from orchestrator.errors import CommandError, ExitCode, format_path
from orchestrator.home import Home
from orchestrator.study.retention import TRIAL_FOLDER
from orchestrator.terminal import Terminal
from orchestrator.tracking.addresses import require_registry
from orchestrator.tracking.environment import prepare_process
from workers.storage import LocalFolder, Storage

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow
    from orchestrator.tracking.deletion import ProjectedRun, StudyStore

OLD_S = 7 * 86_400
"""Age at which the log of an internal error may go."""

_ERROR_LOG = re.compile(r"(?:error|defect)-[\d-]+\.log")  # earlier releases: defect


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What may go."""

    checkpoints: Mapping[str, Sequence[Storage]]
    """By study."""
    orphans: Mapping[str, Sequence[Storage]] = field(default_factory=dict)
    """What studies that are gone have left in folders, by study."""
    logs: Sequence[Storage] = ()
    """Old logs of internal errors."""
    store: "StudyStore | None" = None
    runs: "Sequence[ProjectedRun]" = ()
    """Of studies that are gone."""
    left: Sequence[Storage] = ()
    """Folders named after no study of this ledger, which may be somebody else's."""

    def portions(self) -> list[DiskUsage]:
        own = [LocalFolder(run.folder) for run in self.runs if run.folder is not None]
        paths = [path for found in self.checkpoints.values() for path in found]
        orphans = [path for found in self.orphans.values() for path in found]
        return [
            DiskUsage.of("checkpoints beyond those kept", paths),
            DiskUsage.of("folders of deleted studies", orphans),
            DiskUsage.of("runs of deleted studies", own, count=len(self.runs)),
            DiskUsage.of("old logs of internal errors", self.logs),
        ]


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Shows what would go, and with `--yes` deletes it.

    Raises:
        CommandError: There is no study of the name given, or no ledger to say what is needed.
        LeaseHeldError: A driver runs it.
        StoreUnavailableError: MLflow does not answer.
    """
    prepare_process()
    from orchestrator.tracking import deletion  # noqa: PLC0415 - loads mlflow

    require_registry(home.tracking_uri)

    with studies.open_ledger(home) as ledger, deletion.mlflow_errors():
        if options.name is None:
            if ledger is None:
                raise _no_ledger(home)
            known = ledger
            store = deletion.StudyStore.open(home.tracking_uri, home.artifacts, ledger.identity)
            found = _everywhere(ledger, home, store)
        else:
            known, row = studies.find_study(ledger, options.name, home)
            known.require_free(row)
            found = _Found(checkpoints={row.name: _superfluous(known, row, home)})
        portions = found.portions()
        terminal.document |= disk_usage.as_json(portions) | {"deleted": options.yes}
        terminal.print(disk_usage.shown(portions))
        for orphan in (path for paths in found.orphans.values() for path in paths):
            terminal.info(f"no study of this ledger: {orphan}")
        for path in found.left:
            terminal.info(f"stays, for it may be another ledger's, or your own: {path}")
        for outside in sorted(
            {str(run.external_folder) for run in found.runs if run.external_folder}
        ):
            terminal.info(f"stays, for it lies outside of this home: {outside}")
        if options.yes:
            _remove(found, known, home)
            terminal.print("Deleted.")
        elif any(portion.count for portion in portions):
            terminal.print("\nNothing was deleted. To do it, add --yes.")
    return ExitCode.DONE


def _no_ledger(home: Home) -> CommandError:
    return CommandError(
        f"there is no ledger in {format_path(home.folder)}, so nothing says what is still "
        "needed. If its "
        "studies are in another one, name it in ARCHSCOUT_LEDGER as their search did",
        ExitCode.REFUSED,
    )


def _everywhere(ledger: "Ledger", home: Home, store: "StudyStore | None") -> _Found:
    """What may go of all studies, and of those that the ledger had and does not have any more."""
    from orchestrator.ledger import LeaseHeldError  # noqa: PLC0415 - loads sqlalchemy

    rows, identity = ledger.studies(), ledger.identity
    checkpoints = {}
    for row in rows:
        with suppress(LeaseHeldError):  # whoever runs a study cleans up after it
            ledger.require_free(row)
            checkpoints[row.name] = _superfluous(ledger, row, home)
    runs: Sequence[ProjectedRun] = ()
    alone = home.is_sole_ledger(identity) and not (store and store.has_other_ledgers())
    if store is not None:
        gone = store.runs(partial(_is_gone, ledger), unmarked=alone)
        needed = store.registry_references(gone)
        runs = [run for run in gone if run.run_id not in needed]
    orphans: dict[str, list[Storage]] = {}
    left = []
    for folder, names in _unknown(home, ledger):
        ours = disk_usage.made_here(folder, names)
        whole = ours == [folder]
        # Without a mark, a folder is a study's only if all that lies in it is named like that.
        unmarked = alone and whole and any(folder.entries())
        sole = home.owners.is_sole(identity, folder.name, unmarked=unmarked)
        if sole:
            orphans.setdefault(folder.name, []).extend(ours)
        if not (sole and whole):
            left.append(folder)
    return _Found(
        checkpoints=checkpoints,
        orphans=orphans,
        left=left,
        logs=[
            LocalFolder(path)
            for path in sorted(home.logs.glob("*.log"))
            if _ERROR_LOG.fullmatch(path.name) and time.time() - path.stat().st_mtime > OLD_S
        ],
        store=store,
        runs=runs,
    )


def _superfluous(ledger: "Ledger", row: "StudyRow", home: Home) -> list[Storage]:
    from orchestrator.study.retention import unreferenced_files  # noqa: PLC0415 - not for what only reads

    config = studies.stored_config(row)
    if config is None:  # another release's study: it knows what it needs
        return []
    return unreferenced_files(
        home.checkpoints / row.name,
        ledger.trials(row.id),
        config.objectives,
        needed={p.trial_uid for p in ledger.promotions.all() if p.trial_uid is not None},
        owned=home.owns_checkpoints and home.is_sole_owner(ledger.identity, row.name),
    )


def _is_gone(ledger: "Ledger", study: str, created: float) -> bool:
    """Return whether the ledger does not have the study; asked once its run was seen."""
    row = ledger.study(study)
    return row is None or row.created != created


def _unknown(home: Home, ledger: "Ledger") -> Iterator[tuple[Storage, re.Pattern[str]]]:
    """Yield folders named after no study of the ledger, and what a study calls their entries."""
    places: list[tuple[Storage, re.Pattern[str]]] = [(LocalFolder(home.logs), disk_usage.LOG_FILE)]
    if home.owns_checkpoints:
        places.append((home.checkpoints, TRIAL_FOLDER))
    for folder, names in places:
        for path in folder.entries():
            if path.is_dir() and ledger.study(path.name) is None:
                yield path, names


def _remove(found: _Found, ledger: "Ledger", home: Home) -> None:
    from orchestrator.ledger import Holder  # noqa: PLC0415 - loads sqlalchemy

    for name, paths in found.checkpoints.items():
        if paths:
            # Held meanwhile, so that nobody begins to train from what is being deleted.
            _, lease = ledger.open_study(
                name=name, config_json=None, holder=Holder.of_this_process()
            )
            try:
                disk_usage.remove(paths, home.checkpoints)
            finally:
                ledger.release(lease)
    if found.store is not None:
        found.store.remove(found.runs)
    for name, paths in found.orphans.items():
        if ledger.study(name) is not None:  # begun meanwhile
            continue
        logs = [path for path in paths if str(path).startswith(f"{home.logs}/")]
        disk_usage.remove(logs, LocalFolder(home.logs))
        disk_usage.remove([path for path in paths if path not in logs], home.checkpoints)
        home.owners.release(ledger.identity, name)
    disk_usage.remove(found.logs, LocalFolder(home.logs))
