"""Removes what MLflow shows of studies, never what a registered model refers to.

Knows runs, experiments and versions; which studies are to go is for others to say.
"""

import shutil
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
from workers.masking import masked

_OURS = "archscout/"


class StoreUnavailable(Exception):  # noqa: N818 - says what is the case
    """MLflow did not do what it was asked; what it did stays done."""


@contextmanager
def answering() -> Iterator[None]:
    """Turns MLflow's silence and refusals into one line.

    Raises:
        StoreUnavailable: MLflow did not do what it was asked.
    """
    try:
        yield
    except MlflowException as error:
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise StoreUnavailable(
            f"MLflow: {masked(first)[:300]}; the same command goes on once it answers"
        ) from error


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
    artifact_uri: str

    @property
    def folder(self) -> Path | None:
        """The run's own folder, one above its artifacts; None where it has none on this machine."""
        place = urlparse(self.artifact_uri)
        folder = Path(unquote(place.path)).parent
        return folder if place.scheme in {"", "file"} and folder.name == self.run_id else None


class StudyStore:
    """What one MLflow store shows of studies."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._store: Any = client._tracking_client.store  # noqa: SLF001 - see `_erase`

    @classmethod
    def open(cls, uri: str) -> Self | None:
        """The store; None where none was made yet.

        Raises:
            MlflowException: It does not answer.
        """
        require_registry(uri)
        if (file := sqlite_file(uri)) is not None and not file.exists():
            return None
        return cls(open_client(uri))

    @property
    def erases(self) -> bool:
        """Whether what is removed is gone for good; a server keeps it until `mlflow gc` there."""
        return hasattr(self._store, "_hard_delete_run")

    def runs(self, wanted: Callable[[str, float], bool]) -> list[ShownRun]:
        """All runs of the studies wanted, deleted ones too.

        Args:
            wanted: Asked with a study's name and the time at which it was created.
        """
        experiments = [
            found.experiment_id
            for found in _pages(
                lambda token: self._client.search_experiments(ViewType.ALL, page_token=token)
            )
        ]
        shown: list[ShownRun] = []
        for parent in self._search(experiments, "tags.`archscout.kind` = 'study'"):
            tags = parent.data.tags
            study = tags["archscout.study"]
            if wanted(study, float(tags.get("archscout.created", "nan"))):
                mine = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
                children = self._search([parent.info.experiment_id], mine)
                shown += [_shown(run, study) for run in (*children, parent)]
        return shown

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
        with suppress(FileNotFoundError):
            get_artifact_repository(run.artifact_uri).delete_artifacts()  # type: ignore[no-untyped-call]
        self._store._hard_delete_run(run.run_id)  # noqa: SLF001
        if run.folder is not None:
            shutil.rmtree(run.folder, ignore_errors=True)

    def _remove_if_empty(self, experiment_id: str) -> None:
        experiment = self._client.get_experiment(experiment_id)
        if not experiment.name.startswith(_OURS):
            return
        view = ViewType.ALL if self.erases else ViewType.ACTIVE_ONLY
        if self._client.search_runs([experiment_id], run_view_type=view, max_results=1):
            return
        if experiment.lifecycle_stage != "deleted":
            self._client.delete_experiment(experiment_id)
        if self.erases:
            self._store._hard_delete_experiment(experiment_id)  # noqa: SLF001
            place = urlparse(experiment.artifact_location)
            if place.scheme in {"", "file"}:
                shutil.rmtree(unquote(place.path), ignore_errors=True)

    def _search(self, experiments: list[str], text: str) -> list[Run]:
        # Listed in full first: what is about to change must not move under its own pages.
        return list(
            _pages(
                lambda token: self._client.search_runs(
                    experiments, text, ViewType.ALL, max_results=1000, page_token=token
                )
            )
        )


def _shown(run: Run, study: str) -> ShownRun:
    return ShownRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        study=study,
        trial=run.data.tags.get("archscout.trial"),
        parent=run.data.tags.get("mlflow.parentRunId"),
        artifact_uri=str(run.info.artifact_uri),
    )


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Everything that a paged search finds."""
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
