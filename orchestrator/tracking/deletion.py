"""Deletion of studies' runs and experiments in MLflow; runs of registered models are kept.

Knows runs, experiments and model versions; the caller selects the studies.
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
from orchestrator.tracking.errors import as_mlflow_errors, reason
from orchestrator.tracking.experiment import LEDGER, STUDY, created_by
from search_spaces.errors import ArchscoutError, ExitCode
from workers.paths import PathOutsideError, beneath, remove
from workers.redaction import redact


class StoreUnavailableError(ArchscoutError):
    """MLflow failed; what it did before remains done."""

    exit_code = ExitCode.INTERRUPTED


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Turn MLflow's errors into a message of one line.

    Raises:
        StoreUnavailableError: MLflow refused or did not respond.
    """
    try:
        yield
    except MlflowException as error:
        text = f"MLflow: {redact(reason(error))}. Fix it, then run the same command again"
        raise StoreUnavailableError(text) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedRun:
    """Run of a study or of one of its trials."""

    run_id: str
    experiment_id: str
    study: str
    """The study's name."""
    trial: str | None
    """The trial's number; None for the parent run."""
    parent: str | None
    """Run id of the parent run, for a trial."""
    ledger: str | None
    """Identity of the ledger that made the parent run; None for runs made before this tag."""
    artifact_uri: str
    folder: Path | None
    """The run's own folder, the parent of its artifacts; None if it is not in this home."""

    @property
    def external_folder(self) -> Path | None:
        """Folder of its files on this machine outside this home; they are kept."""
        return local_path(self.artifact_uri) if self.folder is None else None


class StudyStore:
    """Studies' runs in one MLflow store."""

    def __init__(self, client: MlflowClient, artifacts: Path, ledger: str) -> None:
        self._client = client
        self._artifacts = artifacts
        self._ledger = ledger
        self._store: Any = client._tracking_client.store  # noqa: SLF001 - see `_delete`

    @classmethod
    def open(cls, uri: str, artifacts: Path, ledger: str) -> Self | None:
        """Return the store; None if it does not exist yet.

        Args:
            uri: Its address.
            artifacts: The home's folder of artifacts; files elsewhere are kept.
            ledger: Identity of the ledger that is open.

        Raises:
            MlflowException: It does not respond.
        """
        require_registry(uri)
        if (file := sqlite_file(uri)) is not None and not file.exists():
            return None
        return cls(open_client(uri), artifacts, ledger)

    @property
    def deletes_permanently(self) -> bool:
        """True if deletion is permanent; a server keeps deleted runs until `mlflow gc` there."""
        return hasattr(self._store, "_hard_delete_run")

    def runs(self, wanted: Callable[[str, float], bool], *, unmarked: bool) -> list[ProjectedRun]:
        """Return all runs of the selected studies of this ledger, including deleted ones.

        Args:
            wanted: Predicate of a study's name and creation time.
            unmarked: Whether to include runs without the tag of a ledger, as made before this tag.
        """
        parents = self._studies()
        ours = {self._ledger, None} if unmarked else {self._ledger}
        shown: list[ProjectedRun] = []
        for parent in parents:
            tags = parent.data.tags
            study, mark = tags.get(STUDY, ""), tags.get(LEDGER)
            if mark in ours and wanted(study, float(tags.get("archscout.created", "nan"))):
                mine = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
                found = self._search([parent.info.experiment_id], mine)
                # Runs that users nested there are kept.
                children = [run for run in found if run.data.tags.get(STUDY) == study]
                shown += [self._projected(run, study, mark) for run in (*children, parent)]
        return shown

    def has_other_ledgers(self) -> bool:
        """Return whether another ledger has a study in this store."""
        return not {run.data.tags.get(LEDGER) for run in self._studies()} <= {self._ledger, None}

    def _studies(self) -> list[Run]:
        """Return all parent runs, including deleted ones."""
        experiments = [
            found.experiment_id
            for found in _pages(
                lambda token: self._client.search_experiments(ViewType.ALL, page_token=token)
            )
        ]
        return self._search(experiments, "tags.`archscout.kind` = 'study'")

    def registry_references(self, runs: Collection[ProjectedRun]) -> dict[str, str]:
        """Return the model version that refers to each run; a trial's run refers to its parent."""
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

    def remove(self, runs: Collection[ProjectedRun]) -> None:
        """Delete runs, and our experiments that have no runs left.

        A run that a model version refers to by now is kept.

        Raises:
            MlflowException: The store does not respond; the rest can be deleted later.
        """
        registry_references = self.registry_references(runs)
        for run in runs:
            if run.run_id not in registry_references:
                self._delete(run)
        for experiment_id in {run.experiment_id for run in runs}:
            self._remove_if_empty(experiment_id)

    def _delete(self, run: ProjectedRun) -> None:
        if self._client.get_run(run.run_id).info.lifecycle_stage != "deleted":
            self._client.delete_run(run.run_id)
        if not self.deletes_permanently:
            return
        # Not by `mlflow gc --run-ids`: that also erases every deleted experiment and logged model
        # of the store, of any owner (mlflow 3.17.2). This is the call it makes for a run.
        if local_path(run.artifact_uri) is None:
            with suppress(FileNotFoundError), as_mlflow_errors():
                get_artifact_repository(run.artifact_uri).delete_artifacts()  # type: ignore[no-untyped-call]
        self._store._hard_delete_run(run.run_id)  # noqa: SLF001
        if run.folder is not None:
            with suppress(OSError):
                remove(run.folder, self._artifacts)

    def _remove_if_empty(self, experiment_id: str) -> None:
        experiment = self._client.get_experiment(experiment_id)
        if not created_by(experiment, self._ledger, self._artifacts):
            return
        view = ViewType.ALL if self.deletes_permanently else ViewType.ACTIVE_ONLY
        if self._client.search_runs([experiment_id], run_view_type=view, max_results=1):
            return
        if experiment.lifecycle_stage != "deleted":
            self._client.delete_experiment(experiment_id)
        if self.deletes_permanently:
            self._store._hard_delete_experiment(experiment_id)  # noqa: SLF001
            self._remove_empty(local_path(experiment.artifact_location))

    def _remove_empty(self, folder: Path | None) -> None:
        """Remove an experiment's folder and its parent folders, as far as they are empty."""
        with suppress(OSError, PathOutsideError):
            while folder is not None:
                beneath(folder, self._artifacts).rmdir()
                folder = folder.parent

    def _search(self, experiments: list[str], text: str) -> list[Run]:
        # Listed in full first: deletions would shift the pages of a running search.
        return list(
            _pages(
                lambda token: self._client.search_runs(
                    experiments, text, ViewType.ALL, max_results=1000, page_token=token
                )
            )
        )

    def _projected(self, run: Run, study: str, ledger: str | None) -> ProjectedRun:
        uri = str(run.info.artifact_uri)
        return ProjectedRun(
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
    """Return the local path of an artifact address; None for other kinds of addresses."""
    place = urlparse(uri)
    return Path(unquote(place.path)) if place.scheme in {"", "file"} else None


def _pages(fetch: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield all results of a paged search."""
    token = None
    while True:
        page = fetch(token)
        yield from page
        token = page.token
        if not token:
            return
