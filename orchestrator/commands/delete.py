"""`archscout delete`: a study with all that there is of it, unless the registry refers to it."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.commands import disk_usage, studies
from orchestrator.commands.disk_usage import DiskUsage
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.study.retention import TRIAL_FOLDER
from orchestrator.terminal import Terminal
from orchestrator.tracking.addresses import require_registry
from orchestrator.tracking.environment import prepare_process
from workers.storage import LocalFolder, Storage

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow
    from orchestrator.tracking.deletion import ProjectedRun, StudyStore

_Folders = Mapping[str, Sequence[Storage]]


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Shows what would go, and with `--yes` deletes it.

    Raises:
        CommandError: There is no such study, or a registered model refers to it.
        LeaseHeldError: A driver runs it.
        StudyNeededError: It is being promoted, or another study goes back to it.
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
        _tell(_portions(ledger, row, runs, folders), options.name, home, terminal, acts=options.yes)
        for outside in sorted({str(run.external_folder) for run in runs if run.external_folder}):
            terminal.info(f"stays, for it lies outside of this home: {outside}")
        if options.yes:
            _delete(options.name, home, ledger, (store, runs), folders)
            for left in (path for paths in _named(home, options.name).values() for path in paths):
                terminal.info(f"stays, for it holds what is not this study's: {left}")
            terminal.print("Deleted.")
    return ExitCode.DONE


def _runs(
    store: "StudyStore | None", name: str, row: "StudyRow | None", *, unmarked: bool
) -> "list[ProjectedRun]":
    """The study's runs; of one that the ledger has lost, those that can be nobody else's."""
    if store is None:
        return []
    if row is not None:
        created = row.created
        return store.runs(lambda study, when: (study, when) == (name, created), unmarked=True)
    return store.runs(lambda study, _: study == name, unmarked=unmarked)


def _folders(
    ledger: "Ledger", row: "StudyRow | None", home: Home, name: str, *, sole: bool
) -> _Folders:
    """What lies in files, by kind; a name with a path in it names no folder.

    Args:
        ledger: Whose study it is.
        row: The study; None of one that the ledger has lost.
        home: Where the files lie.
        name: The study's.
        sole: Whether no other ledger has a study of this name here.
    """
    if row is None and not (sole and home.owns_checkpoints and home.owns_stores):
        return {}
    names = {"checkpoints": TRIAL_FOLDER, "logs": disk_usage.LOG_FILE}
    found = {
        kind: [path for folder in named for path in disk_usage.made_here(folder, names[kind])]
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
                f"study '{name}' stays: the model registry refers to it:",
                *lines,
                "Delete these versions in MLflow first (archscout ui, Models)",
            ]
        ),
        ExitCode.REFUSED,
    )


def _portions(
    ledger: "Ledger",
    row: "StudyRow | None",
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


def _tell(
    portions: Sequence[DiskUsage], name: str, home: Home, terminal: Terminal, *, acts: bool
) -> None:
    terminal.document |= disk_usage.as_json(portions) | {"study": name, "deleted": acts}
    terminal.print(disk_usage.shown(portions))
    if not acts:
        command = f"{home.program} delete {shlex.quote(name)} --yes"
        terminal.print(f"\nNothing was deleted. To do it: {command}")


def _delete(
    name: str,
    home: Home,
    ledger: "Ledger",
    shown: "tuple[StudyStore | None, Sequence[ProjectedRun]]",
    folders: _Folders,
) -> None:
    """The ledger first: then no promotion can begin, and what a crash leaves is found again."""
    from orchestrator.ledger import Holder  # noqa: PLC0415 - loads sqlalchemy

    with studies.hold_projection(home, name):
        if ledger.study(name) is not None:
            ledger.delete_study(name, Holder.of_this_process())
        store, runs = shown
        if store is not None:
            store.remove(runs)
        disk_usage.remove(folders.get("checkpoints", ()), home.checkpoints)
        disk_usage.remove(folders.get("logs", ()), LocalFolder(home.logs))
        home.owners.release(ledger.identity, name)
