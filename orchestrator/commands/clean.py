"""`archscout clean`: delete files that no study, resume, promotion or model refers to."""

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
from orchestrator.ledger import Holder, LeaseHeldError, Ledger, StudyRow
from orchestrator.study.retention import TRIAL_FOLDER, unreferenced_files
from orchestrator.terminal import Terminal
from orchestrator.tracking.addresses import require_registry
from orchestrator.tracking.environment import prepare_process
from workers.storage import LocalFolder, Storage

if TYPE_CHECKING:
    from orchestrator.tracking.deletion import ProjectedRun, StudyStore

OLD_S = 7 * 86_400
"""Age at which the log of an internal error may go."""

_ERROR_LOG = re.compile(r"(?:error|defect)-[\d-]+\.log")  # earlier releases: defect


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unreferenced:
    """Files and runs that may be deleted."""

    checkpoints: Mapping[str, Sequence[Storage]]
    """Superfluous checkpoints by study."""
    orphans: Mapping[str, Sequence[Storage]] = field(default_factory=dict)
    """Files of deleted studies, by study."""
    logs: Sequence[Storage] = ()
    """Old logs of internal errors."""
    store: "StudyStore | None" = None
    runs: "Sequence[ProjectedRun]" = ()
    """Runs of deleted studies."""
    kept: Sequence[Storage] = ()
    """Folders of unknown studies, which may belong to another ledger."""

    def usage(self) -> list[DiskUsage]:
        """Return the disk usage of each kind."""
        folders = [LocalFolder(run.folder) for run in self.runs if run.folder is not None]
        paths = [path for found in self.checkpoints.values() for path in found]
        orphans = [path for found in self.orphans.values() for path in found]
        return [
            DiskUsage.of("checkpoints beyond those kept", paths),
            DiskUsage.of("folders of deleted studies", orphans),
            DiskUsage.of("runs of deleted studies", folders, count=len(self.runs)),
            DiskUsage.of("old logs of internal errors", self.logs),
        ]


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print unreferenced files, and delete them with `--yes`.

    Raises:
        CommandError: There is no such study, or no ledger.
        LeaseHeldError: A driver runs the study.
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
            found = _Unreferenced(checkpoints={row.name: _superfluous(known, row, home)})
        usage = found.usage()
        terminal.document |= disk_usage.as_json(usage) | {"deleted": options.yes}
        terminal.print(disk_usage.format_usage(usage))
        for orphan in (path for paths in found.orphans.values() for path in paths):
            terminal.info(f"deleted study: {orphan}")
        for path in found.kept:
            terminal.info(f"kept, since it may belong to another ledger or to you: {path}")
        for outside in sorted(
            {str(run.external_folder) for run in found.runs if run.external_folder}
        ):
            terminal.info(f"kept, since it is outside this home: {outside}")
        if options.yes:
            _remove(found, known, home)
            terminal.print("Deleted.")
        elif any(kind.count for kind in usage):
            terminal.print("\nNothing was deleted. Add --yes to delete.")
    return ExitCode.DONE


def _no_ledger(home: Home) -> CommandError:
    return CommandError(
        f"there is no ledger in {format_path(home.folder)}, so it is unknown which files are "
        "needed. If its studies are in another ledger, set ARCHSCOUT_LEDGER as for their search",
        ExitCode.REFUSED,
    )


def _everywhere(ledger: Ledger, home: Home, store: "StudyStore | None") -> _Unreferenced:
    """Return what may be deleted of all studies and of deleted ones."""
    rows, identity = ledger.studies(), ledger.identity
    checkpoints = {}
    for row in rows:
        with suppress(LeaseHeldError):  # its driver deletes superfluous files itself
            ledger.require_free(row)
            checkpoints[row.name] = _superfluous(ledger, row, home)
    runs: Sequence[ProjectedRun] = ()
    alone = home.is_sole_ledger(identity) and not (store and store.has_other_ledgers())
    if store is not None:
        gone = store.runs(partial(_is_gone, ledger), unmarked=alone)
        needed = store.registry_references(gone)
        runs = [run for run in gone if run.run_id not in needed]
    orphans: dict[str, list[Storage]] = {}
    kept = []
    for folder, names in _unknown(home, ledger):
        ours = disk_usage.study_files(folder, names)
        whole = ours == [folder]
        # Without a mark, a folder belongs to a study only if all entries have a study's names.
        unmarked = alone and whole and any(folder.entries())
        sole = home.owners.is_sole(identity, folder.name, unmarked=unmarked)
        if sole:
            orphans.setdefault(folder.name, []).extend(ours)
        if not (sole and whole):
            kept.append(folder)
    return _Unreferenced(
        checkpoints=checkpoints,
        orphans=orphans,
        kept=kept,
        logs=[
            LocalFolder(path)
            for path in sorted(home.logs.glob("*.log"))
            if _ERROR_LOG.fullmatch(path.name) and time.time() - path.stat().st_mtime > OLD_S
        ],
        store=store,
        runs=runs,
    )


def _superfluous(ledger: Ledger, row: StudyRow, home: Home) -> list[Storage]:
    config = studies.stored_config(row)
    if config is None:  # another release knows which files it needs
        return []
    return unreferenced_files(
        home.checkpoints / row.name,
        ledger.trials(row.id),
        config.objectives,
        checkpoint=config.checkpoint,
        needed={p.trial_uid for p in ledger.promotions.all() if p.trial_uid is not None},
        owned=home.owns_checkpoints and home.is_sole_owner(ledger.identity, row.name),
    )


def _is_gone(ledger: Ledger, study: str, created: float) -> bool:
    """Return True if the ledger no longer has the study of a run."""
    row = ledger.study(study)
    return row is None or row.created != created


def _unknown(home: Home, ledger: Ledger) -> Iterator[tuple[Storage, re.Pattern[str]]]:
    """Yield folders of unknown studies with the pattern of a study's entries."""
    places: list[tuple[Storage, re.Pattern[str]]] = [(LocalFolder(home.logs), disk_usage.LOG_FILE)]
    if home.owns_checkpoints:
        places.append((home.checkpoints, TRIAL_FOLDER))
    for folder, names in places:
        for path in folder.entries():
            if path.is_dir() and ledger.study(path.name) is None:
                yield path, names


def _remove(found: _Unreferenced, ledger: Ledger, home: Home) -> None:
    for name, paths in found.checkpoints.items():
        if paths:
            # The lease keeps drivers from resuming from a checkpoint while it is deleted.
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
        if ledger.study(name) is not None:  # created in the meantime
            continue
        logs = [path for path in paths if str(path).startswith(f"{home.logs}/")]
        disk_usage.remove(logs, LocalFolder(home.logs))
        disk_usage.remove([path for path in paths if path not in logs], home.checkpoints)
        home.owners.release(ledger.identity, name)
    disk_usage.remove(found.logs, LocalFolder(home.logs))
