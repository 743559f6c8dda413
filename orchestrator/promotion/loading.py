"""Loading of a registered model, which is verified before any byte of it is used.

Its code runs only if it equals this installation's, or if this home's ledger recorded its digest:
others can write to a registry, so its contents alone are not trusted.
"""

import importlib.util
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator.errors import PromotionRefusedError
from orchestrator.ledger import Promotion
from orchestrator.promotion import package
from orchestrator.promotion.registry import OPERATION, Champion, ModelRegistry, model_uri
from orchestrator.tracking.deletion import mlflow_errors
from workers import manifest

_RESTORE = "promote the trial again, or restore the file"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """Verified model, ready to predict."""

    name: str
    version: int
    class_names: tuple[str, ...]
    value_names: tuple[str, ...]
    shim: Any
    """Instance of its code file's class: `answer`, `prepare_image`, `prepare_arrays`, `facts`."""


def load(
    registry: ModelRegistry, name: str, champion: Champion, promotions: list[Promotion]
) -> LoadedModel:
    """Fetch a version, verify it and build its network.

    Args:
        registry: The registry that has it.
        name: Name of the registered model.
        champion: Its version.
        promotions: The promotions of this home's ledger.

    Raises:
        PromotionRefusedError: A file is missing or differs, or the code is unknown.
    """
    uri = model_uri(name, champion.version)
    recorded = recorded_manifest(name, champion, promotions)
    expected = expected_manifest(name, champion, promotions)
    with tempfile.TemporaryDirectory(prefix="archscout-predict-") as folder:
        fetched, verified = Path(folder) / "fetched", Path(folder) / "verified"
        fetched.mkdir()
        verified.mkdir()
        with mlflow_errors():
            fetched = registry.fetch(name, champion.version, fetched)
        try:
            digests = manifest.verified_copy(fetched, verified, expected)
        except ValueError as error:
            raise PromotionRefusedError(
                f"{uri} is not what was promoted: {error}; {_RESTORE}"
            ) from None
        if recorded is None:
            _require_own_code(uri, digests)
        shim = _run(verified / package.SHIM.name)
        shim.load_context(SimpleNamespace(artifacts={"model": str(verified / "artifacts/model")}))
    return LoadedModel(
        name=name,
        version=champion.version,
        class_names=tuple(shim.class_names),
        value_names=tuple(shim.value_names),
        shim=shim,
    )


def expected_manifest(name: str, champion: Champion, promotions: list[Promotion]) -> str:
    """Return the expected digest of a version's manifest.

    Raises:
        PromotionRefusedError: Unknown, because archscout did not promote the version.
    """
    recorded = recorded_manifest(name, champion, promotions)
    expected = recorded or champion.tags.get("archscout.manifest_sha256")
    if expected is None:
        uri = model_uri(name, champion.version)
        raise PromotionRefusedError(f"{uri} was not promoted by archscout, and is not loaded")
    return expected


def recorded_manifest(name: str, champion: Champion, promotions: list[Promotion]) -> str | None:
    """Return the digest of a version's manifest in the ledger; None if it has none."""
    for promotion in promotions:
        same = (promotion.model, promotion.version) == (name, champion.version)
        if same and promotion.operation == champion.tags.get(OPERATION):
            return promotion.detail.get("manifest_sha256")
    return None


def _require_own_code(uri: str, digests: Mapping[str, str]) -> None:
    own = package.expected_code(None)
    code = {name: digest for name, digest in digests.items() if name.endswith(".py")}
    differing = sorted(name for name in {*own, *code} if own.get(name) != code.get(name))
    if differing:
        raise PromotionRefusedError(
            f"{uri} contains code that this archscout does not know ({differing[0]}): predict with "
            "the home or the release that promoted it"
        )


def _run(path: Path) -> Any:
    """Return the model of a verified code file."""
    spec = importlib.util.spec_from_file_location("archscout_model", path)
    assert spec is not None  # noqa: S101  # A path that ends in .py has one.
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow asks for type hints, which would become a schema
        spec.loader.exec_module(module)
    return module.ArchscoutModel()
