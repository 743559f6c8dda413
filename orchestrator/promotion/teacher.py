"""Registered model as a teacher for distillation: fetched, verified, and copied for the workers.

None of the model's code runs; its weights and architecture are plain data.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from orchestrator.errors import PromotionRefusedError
from orchestrator.home import Home
from orchestrator.ledger import Ledger
from orchestrator.promotion.loading import expected_manifest
from orchestrator.promotion.package import has_users_blocks
from orchestrator.promotion.registry import ModelRegistry, model_uri
from orchestrator.tracking.deletion import mlflow_errors
from search_spaces.architecture import Architecture
from workers import manifest
from workers.data import Dataset
from workers.job import TeacherRef
from workers.storage import Storage
from workers.training.teacher import FACTS, WEIGHTS, build_network, task_mismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredTeacher:
    """Verified files of a teacher."""

    reference: str
    """MODEL/VERSION."""
    manifest_sha256: str
    """Digest of the promoted model's manifest."""
    files: dict[str, bytes]
    """Contents by file name."""

    def require_fit(self, dataset: Dataset, code_digest: str | None) -> None:
        """Refuse a teacher that does not fit the study.

        Args:
            dataset: The study's data set.
            code_digest: Digest of the study's own Python, whose blocks the teacher may use.

        Raises:
            PromotionRefusedError: It has another task, or cannot be built here.
        """
        facts = json.loads(self.files[FACTS])
        if reason := task_mismatch(facts, dataset):
            raise PromotionRefusedError(f"teacher: {self.reference} {reason}")
        try:
            has_foreign_blocks = has_users_blocks(
                Architecture.from_dict(facts["candidate"]["architecture"])
            )
            build_network(self.files)
        except (ValueError, LookupError, TypeError, RuntimeError) as error:
            raise PromotionRefusedError(
                f"teacher: {self.reference} cannot be built here; a user's own code is not part of "
                f"a teacher: {error}"
            ) from error
        if has_foreign_blocks and facts["user_code"] != code_digest:
            raise PromotionRefusedError(
                f"teacher: {self.reference} is built of a user's own blocks, which differ from "
                "those of this study; name a teacher of catalog blocks"
            )

    def stage(self, folder: Storage) -> TeacherRef:
        """Copy the files to a folder that workers read.

        Args:
            folder: Folder of the study's checkpoints, which every worker can access.

        Raises:
            OSError: They cannot be written.
        """
        text = manifest.encode(self.files.items())
        sha256 = manifest.digest(text)
        place = folder / f"teacher-{sha256[:16]}"
        for name, content in {**self.files, manifest.NAME: text}.items():
            place.write(name, content)
        return TeacherRef(path=str(place), sha256=sha256)


def fetch(reference: str, home: Home, ledger: Ledger | None) -> RegisteredTeacher:
    """Return the teacher named by `MODEL/VERSION`.

    Args:
        reference: The reference in the study's config.
        home: The home whose registry has it.
        ledger: The home's ledger, which records promotions; None if it has none.

    Raises:
        PromotionRefusedError: There is no such version, or it is not what was promoted.
    """
    model, _, number = reference.rpartition("/")
    with mlflow_errors():
        registry = ModelRegistry.open(home.tracking_uri)
        try:
            version = registry.version_by_number(model, int(number))
        except MlflowException:
            known = ", ".join(registry.models()[:20]) or "none"
            raise PromotionRefusedError(
                f"teacher: there is no version {number} of a model {model!r}. Models: {known}"
            ) from None
        promotions = ledger.promotions.all() if ledger else []
        expected = expected_manifest(model, version, promotions)
        files = _verified_files(registry, model, version.version, expected)
    return RegisteredTeacher(reference=reference, manifest_sha256=expected, files=files)


def _verified_files(
    registry: ModelRegistry, model: str, version: int, expected: str
) -> dict[str, bytes]:
    """Return the teacher's files, after the whole model is verified."""
    with tempfile.TemporaryDirectory(prefix="archscout-teacher-") as place:
        fetched, verified = Path(place) / "fetched", Path(place) / "verified"
        fetched.mkdir()
        verified.mkdir()
        try:
            manifest.verified_copy(registry.fetch(model, version, fetched), verified, expected)
        except ValueError as error:
            uri = model_uri(model, version)
            raise PromotionRefusedError(
                f"teacher: {uri} is not what was promoted: {error}"
            ) from None
        inside = verified / "artifacts" / "model"
        return {name: (inside / name).read_bytes() for name in (FACTS, WEIGHTS)}
