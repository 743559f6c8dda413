"""Removes what MLflow shows of studies, never what a registered model refers to.

Knows runs, experiments and versions; which studies are to go is for others to say.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlparse

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from orchestrator.tracking.addresses import require_registry, sqlite_file
from orchestrator.tracking.client import open_client
from orchestrator.tracking.experiment import LEDGER, STUDY, made_by
from orchestrator.tracking.refusals import as_mlflow_errors, reason
from search_spaces.errors import ArchscoutError, ExitCode
from workers.paths import PathOutsideError, beneath, remove
from workers.redaction import redact


class StoreUnavailableError(ArchscoutError):
    """MLflow did not do what it was asked; what it did stays done."""

    exit_code = ExitCode.INTERRUPTED


@contextmanager
def answering() -> Iterator[None]:
    """Turns MLflow's silence and refusals into one line.

    Raises:
        StoreUnavailableError: MLflow did not do what it was asked.
    """
    try:
        yield
    except MlflowException as error:
        text = f"MLflow: {redact(reason(error))}. After mending, give the same command again"
        raise StoreUnavailableError(text) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """One run that shows a study or a trial of it."""

    run_id: str
    experiment_id: str
    study: str
    """The study's name."""
    trial: str | None
    """The trial's number; None for the study's own run."""
    parent: str | None
    """The study's own run, of a trial's."""
    ledger: str | None
    """Identity of the ledger that made the study's own run; None of one from before marks."""
    artifact_uri: str
    folder: Path | None
    """The run's own folder, one above its artifacts; None where it has none in this home."""

    @property
    def outside(self) -> Path | None:
        """Where its files lie on this machine if not in this home; they stay."""
        return local_path(self.artifact_uri) if self.folder is None else None


class StudyStore:
    """What one MLflow store shows of studies."""

    def __init__(self, client: MlflowClient, artifacts: Path, ledger: str) -> None:
        self._client = client
        self._artifacts = artifacts
        self._ledger = ledger
        self._store: Any = client._tracking_client.store  # noqa: SLF001 - see `_erase`

    @classmethod
    def open(cls, uri: str, artifacts: Path, ledger: str) -> Self | None:
        """The store; None where none was made yet.

        Args:
            uri: Its address.
            artifacts: The home's folder of artifacts: files elsewhere are left alone.
            ledger: Identity of the ledger that is open.

        Raises:
            MlflowException: It does not answer.
        """
        require_registry(uri)
        if (file := sqlite_file(uri)) is not None and not file.exists():
            return None
        return cls(open_client(uri), artifacts, ledger)

    @property
    def erases(self) -> bool:
        """Whether what is removed is gone for good; a server keeps it until `mlflow gc` there."""
        return hasattr(self._store, "_hard_delete_run")

    def runs(self, wanted: Callable[[str, float], bool], *, unmarked: bool) -> list[ShownRun]:
        """All runs of the studies wanted, deleted ones too, but for those of other ledgers.

        Args:
            wanted: Asked with a study's name and the time at which it was created.
            unmarked: Whether those from before marks are taken.
        """
        parents = self._studies()
        ours = {self._ledger, None} if unmarked else {self._ledger}
        shown: list[ShownRun] = []
        for parent in parents:
            tags = parent.data.tags
            study, mark = tags.get(STUDY, ""), tags.get(LEDGER)
            if mark in ours and wanted(study, float(tags.get("archscout.created", "nan"))):
                mine = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
                found = self._search([parent.info.experiment_id], mine)
                # Runs that somebody else nested there stay.
                children = [run for run in found if run.data.tags.get(STUDY) == study]
                shown += [self._shown(run, study, mark) for run in (*children, parent)]
        return shown

    def has_others(self) -> bool:
        """Return whether another ledger has a study in this store."""
        return not {run.data.tags.get(LEDGER) for run in self._studies()} <= {self._ledger, None}

    def _studies(self) -> list[Run]:
        """Return all studies' own runs, deleted ones too."""
        experiments = [
            found.experiment_id
            for found in _pages(
                lambda token: self._client.search_experiments(ViewType.ALL, page_token=token)
            )
        ]
        return self._search(experiments, "tags.`archscout.kind` = 'study'")

    def needed(self, runs: Collection[ShownRun]) -> dict[str, str]:
        """What in the registry refers to runs, by run; a trial's run needs its study's."""
        known = {run.run_id for run in runs}
        found = {}
        for version in _pages(lambda token: self._client.search_model_versions(page_token=token)):
            parts = {version.run_id, *str(version.source).split("/")}
            for run_id in known & parts:
                model = self._client.get_model_version(version.name, version.version)
                aliases = "".join(f" @{alias}" for alias in model.aliases)
                found[run_id] = f"version {version.version} of model '{version.name}'{aliases}"
        parents = {run.parent: found[run.run_id] for run in runs if run.run_id in found}
        return {**{run_id: what for run_id, what in parents.items() if run_id}, **found}

    def remove(self, runs: Collection[ShownRun]) -> None:
        """Remove runs, and experiments of ours that hold no run any more.

        A version that came to refer to one meanwhile keeps it.

        Raises:
            MlflowException: The store does not answer; the rest can be removed later.
        """
        needed = self.needed(runs)
        for run in runs:
            if run.run_id not in needed:
                self._erase(run)
        for experiment_id in {run.experiment_id for run in runs}:
            self._remove_if_empty(experiment_id)

    def _erase(self, run: ShownRun) -> None:
        if self._client.get_run(run.run_id).info.lifecycle_stage != "deleted":
            self._client.delete_run(run.run_id)
        if not self.erases:
            return
        # Not by `mlflow gc --run-ids`: that also erases every deleted experiment and logged model
        # of the store, whosesoever (mlflow 3.17.2). This is what it calls for a run.
        if local_path(run.artifact_uri) is None:
            with suppress(FileNotFoundError), as_mlflow_errors():
                get_artifact_repository(run.artifact_uri).delete_artifacts()  # type: ignore[no-untyped-call]
        self._store._hard_delete_run(run.run_id)  # noqa: SLF001
        if run.folder is not None:
            with suppress(OSError):
                remove(run.folder, self._artifacts)

    def _remove_if_empty(self, experiment_id: str) -> None:
        experiment = self._client.get_experiment(experiment_id)
        if not made_by(experiment, self._ledger, self._artifacts):
            return
        view = ViewType.ALL if self.erases else ViewType.ACTIVE_ONLY
        if self._client.search_runs([experiment_id], run_view_type=view, max_results=1):
            return
        if experiment.lifecycle_stage != "deleted":
            self._client.delete_experiment(experiment_id)
        if self.erases:
            self._store._hard_delete_experiment(experiment_id)  # noqa: SLF001
            self._remove_empty(local_path(experiment.artifact_location))

    def _remove_empty(self, folder: Path | None) -> None:
        """Remove an experiment's folder, and those around it, as far as nothing lies in them."""
        with suppress(OSError, PathOutsideError):
            while folder is not None:
                beneath(folder, self._artifacts).rmdir()
                folder = folder.parent

    def _search(self, experiments: list[str], text: str) -> list[Run]:
        # Listed in full first: what is about to change must not move under its own pages.
        return list(
            _pages(
                lambda token: self._client.search_runs(
                    experiments, text, ViewType.ALL, max_results=1000, page_token=token
                )
            )
        )

    def _shown(self, run: Run, study: str, ledger: str | None) -> ShownRun:
        uri = str(run.info.artifact_uri)
        return ShownRun(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            study=study,
            trial=run.data.tags.get("archscout.trial"),
            parent=run.data.tags.get("mlflow.parentRunId"),
            ledger=ledger,
            artifact_uri=uri,
            folder=self._folder(run.info.run_id, local_path(uri)),
        )

    def _folder(self, run_id: str, artifacts: Path | None) -> Path | None:
        if artifacts is None or artifacts.parent.name != run_id:
            return None
        with suppress(PathOutsideError):
            return beneath(artifacts.parent, self._artifacts)
        return None


def local_path(uri: str) -> Path | None:
    """Return the path that an artifacts' address means on this machine; None for any other."""
    place = urlparse(uri)
    return Path(unquote(place.path)) if place.scheme in {"", "file"} else None


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Everything that a paged search finds."""
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
