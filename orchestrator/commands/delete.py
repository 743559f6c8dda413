"""`archscout delete`: delete a study with its runs, checkpoints and logs."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.commands import disk_usage, studies
from orchestrator.commands.disk_usage import DiskUsage
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.ledger import Holder, Ledger, StudyRow
from orchestrator.study.retention import TRIAL_FOLDER
from orchestrator.terminal import Terminal
from orchestrator.tracking.addresses import require_registry
from orchestrator.tracking.environment import prepare_process
from workers.storage import LocalFolder, Storage

if TYPE_CHECKING:
    from orchestrator.tracking.deletion import ProjectedRun, StudyStore

_Folders = Mapping[str, Sequence[Storage]]


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print what belongs to a study, and delete it with `--yes`.

    Raises:
        CommandError: There is no such study, or a registered model refers to it.
        LeaseHeldError: A driver runs the study.
        StudyNeededError: The study is being promoted, or another study was warm-started from it.
        StoreUnavailableError: MLflow does not answer.
    """
    prepare_process()
    from orchestrator.tracking import deletion  # noqa: PLC0415 - loads mlflow

    require_registry(home.tracking_uri)

    with studies.open_ledger(home) as ledger, deletion.mlflow_errors():
        if ledger is None:
            raise studies.unknown_study(options.name, home)
        row = ledger.study(options.name)
        if row is not None:
            ledger.require_deletable(row)
        store = deletion.StudyStore.open(home.tracking_uri, home.artifacts, ledger.identity)
        alone = home.is_sole_ledger(ledger.identity) and not (store and store.has_other_ledgers())
        runs = _runs(store, options.name, row, unmarked=alone)
        sole = home.owners.is_sole(ledger.identity, options.name, unmarked=alone)
        folders = _folders(ledger, row, home, options.name, sole=sole)
        if row is None and not runs and not folders:
            studies.find_study(ledger, options.name, home)
        if store is not None:
            _refuse_needed(options.name, runs, store)
        _print_usage(
            _usage(ledger, row, runs, folders), options.name, home, terminal, deleted=options.yes
        )
        for outside in sorted({str(run.external_folder) for run in runs if run.external_folder}):
            terminal.info(f"kept, since it is outside this home: {outside}")
        if options.yes:
            _delete(options.name, home, ledger, (store, runs), folders)
            for left in (path for paths in _named(home, options.name).values() for path in paths):
                terminal.info(f"kept, since it contains other files: {left}")
            terminal.print("Deleted.")
    return ExitCode.DONE


def _runs(
    store: "StudyStore | None", name: str, row: StudyRow | None, *, unmarked: bool
) -> "list[ProjectedRun]":
    """Return the study's runs; for a study that the ledger lacks, those of no other ledger."""
    if store is None:
        return []
    if row is not None:
        created = row.created
        return store.runs(lambda study, when: (study, when) == (name, created), unmarked=True)
    return store.runs(lambda study, _: study == name, unmarked=unmarked)


def _folders(
    ledger: Ledger, row: StudyRow | None, home: Home, name: str, *, sole: bool
) -> _Folders:
    """Return the files of a study by kind; none for a name that contains a path.

    Args:
        ledger: Ledger of the study.
        row: The study; None if the ledger lacks it.
        home: Home of the files.
        name: Name of the study.
        sole: No other ledger has a study of this name in the home.
    """
    if row is None and not (sole and home.owns_checkpoints and home.owns_stores):
        return {}
    names = {"checkpoints": TRIAL_FOLDER, "logs": disk_usage.LOG_FILE}
    found = {
        kind: [path for folder in named for path in disk_usage.study_files(folder, names[kind])]
        for kind, named in _named(home, name).items()
    }
    if row is not None and not sole and home.owners.of(name) - {ledger.identity}:
        del found["logs"]  # by number, and so those of both
    if row is not None and not (sole and home.owns_checkpoints):
        # A study of another ledger may have the same name there.
        ours = {trial.uid for trial in ledger.trials(row.id)}
        found["checkpoints"] = [
            path
            for study in _named(home, name)["checkpoints"]
            for path in study.entries()
            if path.name in ours and not study.is_link()
        ]
    return {kind: paths for kind, paths in found.items() if paths}


def _named(home: Home, name: str) -> _Folders:
    """Return the folders with the study's name, by kind."""
    parents: Mapping[str, Storage] = {
        "checkpoints": home.checkpoints,
        "logs": LocalFolder(home.logs),
    }
    return {
        kind: [path for path in parent.entries() if path.name == name and path.is_dir()]
        for kind, parent in parents.items()
    }


def _refuse_needed(name: str, runs: "Sequence[ProjectedRun]", store: "StudyStore") -> None:
    needed = store.registry_references(runs)
    if not needed:
        return
    trials = {run.run_id: run.trial for run in runs}
    lines = [
        f"  trial {trials[run_id]}: {what}" for run_id, what in needed.items() if trials[run_id]
    ]
    raise CommandError(
        "\n".join(
            [
                f"study '{name}' is kept: the model registry refers to it:",
                *lines,
                "Delete these versions in MLflow first (archscout ui, Models)",
            ]
        ),
        ExitCode.REFUSED,
    )


def _usage(
    ledger: Ledger,
    row: StudyRow | None,
    runs: "Sequence[ProjectedRun]",
    folders: _Folders,
) -> list[DiskUsage]:
    trials = len(ledger.trials(row.id)) if row is not None else 0
    own = [LocalFolder(run.folder) for run in runs if run.folder is not None]
    return [
        DiskUsage(kind="trials in the ledger", count=trials, files=0, bytes=0),
        DiskUsage.of("runs in MLflow", own, count=len(runs)),
        *(DiskUsage.of(kind, paths) for kind, paths in folders.items()),
    ]


def _print_usage(
    usage: Sequence[DiskUsage], name: str, home: Home, terminal: Terminal, *, deleted: bool
) -> None:
    terminal.document |= disk_usage.as_json(usage) | {"study": name, "deleted": deleted}
    terminal.print(disk_usage.format_usage(usage))
    if not deleted:
        command = f"{home.program} delete {shlex.quote(name)} --yes"
        terminal.print(f"\nNothing was deleted. To delete: {command}")


def _delete(
    name: str,
    home: Home,
    ledger: Ledger,
    shown: "tuple[StudyStore | None, Sequence[ProjectedRun]]",
    folders: _Folders,
) -> None:
    """Delete from the ledger first, so that no promotion can begin; `clean` finds the rest."""
    with studies.hold_projection(home, name):
        if ledger.study(name) is not None:
            ledger.delete_study(name, Holder.of_this_process())
        store, runs = shown
        if store is not None:
            store.remove(runs)
        disk_usage.remove(folders.get("checkpoints", ()), home.checkpoints)
        disk_usage.remove(folders.get("logs", ()), LocalFolder(home.logs))
        home.owners.release(ledger.identity, name)
