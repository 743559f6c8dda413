"""A promoted model as a teacher: fetched from the registry, proved, and laid where workers read it.

Nothing of what a model brings is run; its weights and architecture are plain data.
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
from orchestrator.tracking.deletion import answering
from search_spaces.architecture import Architecture
from workers import manifest
from workers.data import Dataset
from workers.job import TeacherRef
from workers.storage import Storage
from workers.training.teacher import FACTS, WEIGHTS, network, unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A teacher's proved files."""

    reference: str
    """MODEL/VERSION."""
    manifest_sha256: str
    """Of the model as it was promoted."""
    files: dict[str, bytes]
    """By name."""

    def require_fit(self, dataset: Dataset, code_digest: str | None) -> None:
        """Refuses a teacher that cannot teach.

        Args:
            dataset: What is to be learnt.
            code_digest: Of the study's own Python, whose blocks the teacher may be built of.

        Raises:
            PromotionRefusedError: It answers another task, or cannot be built here.
        """
        facts = json.loads(self.files[FACTS])
        if reason := unfit(facts, dataset):
            raise PromotionRefusedError(f"teacher: {self.reference} {reason}")
        try:
            foreign = has_users_blocks(Architecture.from_dict(facts["candidate"]["architecture"]))
            network(self.files)
        except (ValueError, LookupError, TypeError, RuntimeError) as error:
            raise PromotionRefusedError(
                f"teacher: {self.reference} cannot be built here; code of a user's own does not "
                f"come with a teacher: {error}"
            ) from error
        if foreign and facts["user_code"] != code_digest:
            raise PromotionRefusedError(
                f"teacher: {self.reference} is built of blocks of a user's own, and those of this "
                "study are others; name a teacher of ready blocks"
            )

    def stage(self, folder: Storage) -> TeacherRef:
        """Put the files where workers find them.

        Args:
            folder: Of the study's checkpoints, which every worker reaches.

        Raises:
            OSError: They cannot be written.
        """
        text = manifest.encode(self.files.items())
        sha256 = manifest.digest(text)
        place = folder / f"teacher-{sha256[:16]}"
        for name, content in {**self.files, manifest.NAME: text}.items():
            place.write(name, content)
        return TeacherRef(path=str(place), sha256=sha256)


def fetch(reference: str, home: Home, ledger: Ledger | None) -> Teacher:
    """The teacher that `MODEL/VERSION` names.

    Args:
        reference: As the study says it.
        home: Whose registry is asked.
        ledger: What this home knows of promotions; None where it has none.

    Raises:
        PromotionRefusedError: There is no such version, or it is not what was promoted.
    """
    model, _, number = reference.rpartition("/")
    with answering():
        registry = ModelRegistry.open(home.tracking_uri)
        try:
            version = registry.numbered(model, int(number))
        except MlflowException:
            known = ", ".join(registry.models()[:20]) or "none"
            raise PromotionRefusedError(
                f"teacher: there is no version {number} of a model {model!r}. Models: {known}"
            ) from None
        promotions = ledger.promotions.all() if ledger else []
        expected = expected_manifest(model, version, promotions)
        files = _proved(registry, model, version.version, expected)
    return Teacher(reference=reference, manifest_sha256=expected, files=files)


def _proved(registry: ModelRegistry, model: str, version: int, expected: str) -> dict[str, bytes]:
    """The teacher's files, once the whole model has proved itself."""
    with tempfile.TemporaryDirectory(prefix="archscout-teacher-") as place:
        fetched, proved = Path(place) / "fetched", Path(place) / "proved"
        fetched.mkdir()
        proved.mkdir()
        try:
            manifest.verified_copy(registry.fetch(model, version, fetched), proved, expected)
        except ValueError as error:
            uri = model_uri(model, version)
            raise PromotionRefusedError(
                f"teacher: {uri} is not what was promoted: {error}"
            ) from None
        inside = proved / "artifacts" / "model"
        return {name: (inside / name).read_bytes() for name in (FACTS, WEIGHTS)}
