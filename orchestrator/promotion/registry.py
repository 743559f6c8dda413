"""MLflow's model registry: a trial's run, its model version, tags and alias.

Every call is idempotent: a version is looked up by its operation before it is created.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from orchestrator.tracking.addresses import require_registry
from orchestrator.tracking.client import open_client
from orchestrator.tracking.errors import as_mlflow_errors
from orchestrator.tracking.trial_runs import tag_value

OPERATION = "archscout.operation"
OPENINGS = "archscout.test_opened"
"""Tag: number of times that this version's promotion evaluated the held-out test set."""
_EXISTS, _ABSENT = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """Model version that an alias points to, and its tags."""

    version: int
    tags: Mapping[str, str]


class ModelRegistry:
    """Model registry of one MLflow store.

    Examples:
        >>> registry = ModelRegistry.open("sqlite:///mlruns/mlflow.db")
        >>> champion = registry.champion("digits", "champion")
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    @classmethod
    def open(cls, uri: str) -> "ModelRegistry":
        """Open the registry of a store.

        Raises:
            MlflowException: The store does not respond.
            StoreAddressError: MLflow cannot be used at the address.
        """
        require_registry(uri)
        return cls(open_client(uri))

    def run_of(self, experiment: str, trial_uid: str) -> Run | None:
        """Return the run of a trial; None if there is none."""
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            return None
        runs = self._client.search_runs(
            [found.experiment_id], f"tags.`archscout.trial_uid` = '{trial_uid}'", max_results=1
        )
        return runs[0] if runs else None

    def upload(self, run: Run, folder: Path, place: str) -> None:
        """Upload a model's files to a folder of a run, replacing older ones."""
        with as_mlflow_errors():
            self._client.log_artifacts(run.info.run_id, str(folder), place)

    def tag_run(self, run: Run, text: str) -> None:
        """Write the state of the promotion to a tag of the trial's run."""
        self._client.set_tag(run.info.run_id, "archscout.promotion", tag_value(text))

    def version(
        self, run: Run, place: str, model: str, *, operation: str, tags: Mapping[str, str]
    ) -> int:
        """Return the version that an operation registered; create it if there is none.

        Args:
            run: The run that has the files.
            place: Folder of the files in the run's artifacts.
            model: Name of the registered model, created if there is none.
            operation: Identity of the promotion.
            tags: Tags to set.
        """
        self._create(model)
        for known in self._client.search_model_versions(f"name = '{model}'"):
            if known.tags.get(OPERATION) == operation:
                number = int(known.version)
                self.tag(model, number, tags)
                return number
        created = self._client.create_model_version(
            model,
            source=f"{run.info.artifact_uri}/{place}",
            run_id=run.info.run_id,
            tags={**tags, OPERATION: operation},
            await_creation_for=0,
        )
        return int(created.version)

    def _create(self, model: str) -> None:
        try:
            self._client.create_registered_model(
                model, description="Found by archscout. Each version describes its verification."
            )
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise

    def tag(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(model, str(version), key, tag_value(value))

    def describe(self, model: str, version: int, text: str) -> None:
        """Set a version's description."""
        self._client.update_model_version(model, str(version), tag_value(text))

    def champion(self, model: str, alias: str) -> Champion | None:
        """Return the version that the alias points to; None if there is none."""
        try:
            found = self._client.get_model_version_by_alias(model, alias)
        except MlflowException as error:
            if error.error_code in {_ABSENT, "INVALID_PARAMETER_VALUE"}:
                return None
            raise
        return Champion(version=int(found.version), tags=dict(found.tags))

    def version_by_number(self, model: str, version: int) -> Champion:
        """Return a version by its number.

        Raises:
            MlflowException: There is none.
        """
        found = self._client.get_model_version(model, str(version))
        return Champion(version=int(found.version), tags=dict(found.tags))

    def openings(self, identity: Mapping[str, str], excluding: Collection[str]) -> int:
        """Return the number of evaluations of a held-out test set by other promotions.

        Args:
            identity: Tags, any one of which identifies the test set.
            excluding: Operations that are not counted.
        """
        found = {
            (version.name, version.version): version.tags
            for tag, digest in identity.items()
            for version in self._client.search_model_versions(f"tags.`{tag}` = '{digest}'")
        }
        others = [tags for tags in found.values() if tags.get(OPERATION) not in excluding]
        return sum(int(tags.get(OPENINGS, 0)) for tags in others)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Move the alias."""
        self._client.set_registered_model_alias(model, alias, str(version))

    def fetch(self, model: str, version: int, folder: Path) -> Path:
        """Copy a version's files into an empty folder; return their folder."""
        # By the files' own address: MLflow 3.17.2 resolves `models:/` in its global default store.
        with as_mlflow_errors():
            fetched = mlflow.artifacts.download_artifacts(
                artifact_uri=self._client.get_model_version_download_uri(model, str(version)),
                dst_path=str(folder),
                tracking_uri=self._client.tracking_uri,
            )
        return Path(fetched)

    def models(self) -> list[str]:
        """Return the names of all registered models."""
        return [model.name for model in self._client.search_registered_models()]

    def aliases(self, model: str) -> list[str]:
        """Return the aliases of a model."""
        return sorted(self._client.get_registered_model(model).aliases)


def model_uri(model: str, version: int) -> str:
    """Return MLflow's address of a version."""
    return f"models:/{model}/{version}"
