"""A promoted model as a teacher: fetched from the registry, proved, and laid where workers read it.

Nothing of what a model brings is run; its weights and architecture are plain data.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from orchestrator.home import Home
from orchestrator.ledger import Ledger
from orchestrator.promotion import manifest
from orchestrator.promotion.loading import expected_manifest
from orchestrator.promotion.manifest import ManifestError
from orchestrator.promotion.refusal import PromotionRefused
from orchestrator.promotion.registry import Registry, model_uri
from orchestrator.tracking.cleaning import answering
from workers.job import TeacherRef
from workers.teacher import FACTS, WEIGHTS, digest

FOLDER = "teachers"
"""Where fetched teachers lie beneath the home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """A teacher's proved files."""

    name: str
    """MODEL-VERSION."""
    files: dict[str, bytes]
    """By name."""

    def lay(self, home: Home) -> TeacherRef:
        """Put the files where workers find them.

        Raises:
            OSError: They cannot be written.
        """
        folder = home.folder / FOLDER / self.name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, content in self.files.items():
            if not (folder / name).exists() or (folder / name).read_bytes() != content:
                (folder / name).write_bytes(content)
        return TeacherRef(path=str(folder), sha256=digest(folder))


def fetch(reference: str, home: Home, ledger: Ledger | None) -> Teaching:
    """The teacher that `MODEL/VERSION` names.

    Args:
        reference: As the study says it.
        home: Whose registry is asked.
        ledger: What this home knows of promotions; None where it has none.

    Raises:
        PromotionRefused: There is no such version, or it is not what was promoted.
    """
    model, _, number = reference.rpartition("/")
    with answering():
        registry = Registry.open(home.tracking_uri)
        try:
            version = registry.numbered(model, int(number))
        except MlflowException:
            known = ", ".join(registry.models()[:20]) or "none"
            raise PromotionRefused(
                f"teacher: there is no version {number} of a model {model!r}. Models: {known}"
            ) from None
        promotions = ledger.promotions.all() if ledger else []
        expected = expected_manifest(model, version, promotions)
        files = _proved(registry, model, version.version, expected)
    return Teaching(name=f"{model}-{number}", files=files)


def _proved(registry: Registry, model: str, version: int, expected: str) -> dict[str, bytes]:
    """The teacher's files, once the whole model has proved itself."""
    with tempfile.TemporaryDirectory(prefix="archscout-teacher-") as place:
        fetched, proved = Path(place) / "fetched", Path(place) / "proved"
        fetched.mkdir()
        proved.mkdir()
        try:
            manifest.proved_copy(registry.fetch(model, version, fetched), proved, expected)
        except ManifestError as error:
            uri = model_uri(model, version)
            raise PromotionRefused(f"teacher: {uri} is not what was promoted: {error}") from None
        inside = proved / "artifacts" / "model"
        return {name: (inside / name).read_bytes() for name in (FACTS, WEIGHTS)}
