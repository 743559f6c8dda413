"""MLflow's side of a promotion: the trial's run, the version, its tags and the alias.

Every call can be repeated: a version is looked up by its operation before it is created.
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
from orchestrator.tracking.refusals import as_mlflow_errors
from orchestrator.tracking.trial_runs import tag_value

OPERATION = "archscout.operation"
OPENINGS = "archscout.test_opened"
"""Tag of how often this version's own promotion opened the test part."""
_EXISTS, _ABSENT = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The version that an alias points to, and what is known of it."""

    version: int
    tags: Mapping[str, str]


class ModelRegistry:
    """The model registry of one MLflow store."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    @classmethod
    def open(cls, uri: str) -> "ModelRegistry":
        """The registry of a store.

        Raises:
            MlflowException: The store does not answer.
            StoreAddressError: Neither runs nor models can be kept there.
        """
        require_registry(uri)
        return cls(open_client(uri))

    def run_of(self, experiment: str, trial_uid: str) -> Run | None:
        """The run that shows a trial; None while there is none."""
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            return None
        runs = self._client.search_runs(
            [found.experiment_id], f"tags.`archscout.trial_uid` = '{trial_uid}'", max_results=1
        )
        return runs[0] if runs else None

    def upload(self, run: Run, folder: Path, place: str) -> None:
        """Put a model's files onto a run, in place of what was there."""
        with as_mlflow_errors():
            self._client.log_artifacts(run.info.run_id, str(folder), place)

    def note(self, run: Run, text: str) -> None:
        """Say on the trial's run how its promotion stands."""
        self._client.set_tag(run.info.run_id, "archscout.promotion", tag_value(text))

    def version(
        self, run: Run, place: str, model: str, *, operation: str, tags: Mapping[str, str]
    ) -> int:
        """The version that an operation registered; created if there is none.

        Args:
            run: Whose files it points to.
            place: Where on the run they are.
            model: Its model, created likewise.
            operation: Names it for good.
            tags: What is known of it now.
        """
        self._create(model)
        for known in self._client.search_model_versions(f"name = '{model}'"):
            if known.tags.get(OPERATION) == operation:
                number = int(known.version)
                self.tag(model, number, tags)
                return number
        made = self._client.create_model_version(
            model,
            source=f"{run.info.artifact_uri}/{place}",
            run_id=run.info.run_id,
            tags={**tags, OPERATION: operation},
            await_creation_for=0,
        )
        return int(made.version)

    def _create(self, model: str) -> None:
        try:
            self._client.create_registered_model(
                model, description="Found by archscout. Each version says how it was proved."
            )
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise

    def tag(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Say something about a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(model, str(version), key, tag_value(value))

    def describe(self, model: str, version: int, text: str) -> None:
        """Put a version's description."""
        self._client.update_model_version(model, str(version), tag_value(text))

    def champion(self, model: str, alias: str) -> Champion | None:
        """What the alias points to; None if to nothing."""
        try:
            found = self._client.get_model_version_by_alias(model, alias)
        except MlflowException as error:
            if error.error_code in {_ABSENT, "INVALID_PARAMETER_VALUE"}:
                return None
            raise
        return Champion(version=int(found.version), tags=dict(found.tags))

    def numbered(self, model: str, version: int) -> Champion:
        """A version by its number.

        Raises:
            MlflowException: There is none.
        """
        found = self._client.get_model_version(model, str(version))
        return Champion(version=int(found.version), tags=dict(found.tags))

    def openings(self, identity: Mapping[str, str], besides: Collection[str]) -> int:
        """Return how often a test part was opened by promotions other than these operations.

        Args:
            identity: Tags of which any one identifies the test part.
            besides: Operations that are not counted.
        """
        found = {
            (version.name, version.version): version.tags
            for tag, digest in identity.items()
            for version in self._client.search_model_versions(f"tags.`{tag}` = '{digest}'")
        }
        others = [tags for tags in found.values() if tags.get(OPERATION) not in besides]
        return sum(int(tags.get(OPENINGS, 0)) for tags in others)

    def point(self, model: str, alias: str, version: int) -> None:
        """Move the alias."""
        self._client.set_registered_model_alias(model, alias, str(version))

    def fetch(self, model: str, version: int, folder: Path) -> Path:
        """Copy a version's files to somewhere in an empty folder; where, is returned."""
        # By the files' own address: of `models:/` MLflow 3.17.2 asks its global default store.
        with as_mlflow_errors():
            fetched = mlflow.artifacts.download_artifacts(
                artifact_uri=self._client.get_model_version_download_uri(model, str(version)),
                dst_path=str(folder),
                tracking_uri=self._client.tracking_uri,
            )
        return Path(fetched)

    def models(self) -> list[str]:
        """Names of all registered models."""
        return [model.name for model in self._client.search_registered_models()]

    def aliases(self, model: str) -> list[str]:
        """Aliases of a model."""
        return sorted(self._client.get_registered_model(model).aliases)


def model_uri(model: str, version: int) -> str:
    """How MLflow names a version."""
    return f"models:/{model}/{version}"
