"""A registered model, fetched and proved before a byte of it is used.

Its code runs only if it is what this installation puts into models, or if this home's ledger
recorded it: a registry can be written by others, and nothing that it holds is believed by itself.
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
from orchestrator.tracking.deletion import answering
from workers import manifest

_RESTORE = "promote the trial again, or restore the file"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model that has proved its files."""

    name: str
    version: int
    class_names: tuple[str, ...]
    value_names: tuple[str, ...]
    shim: Any
    """Its code file's model: `answer`, `prepare_image`, `prepare_arrays`, `facts`."""


def load(
    registry: ModelRegistry, name: str, champion: Champion, promotions: list[Promotion]
) -> LoadedModel:
    """Fetch a version, prove it and build its network.

    Args:
        registry: Where it is.
        name: The registered model.
        champion: Its version.
        promotions: What this home's ledger knows of promotions.

    Raises:
        PromotionRefusedError: A file is missing or differs, or its code is nobody's we know.
    """
    uri = model_uri(name, champion.version)
    known = recorded_manifest(name, champion, promotions)
    expected = expected_manifest(name, champion, promotions)
    with tempfile.TemporaryDirectory(prefix="archscout-predict-") as folder:
        fetched, proved = Path(folder) / "fetched", Path(folder) / "proved"
        fetched.mkdir()
        proved.mkdir()
        with answering():
            fetched = registry.fetch(name, champion.version, fetched)
        try:
            digests = manifest.verified_copy(fetched, proved, expected)
        except ValueError as error:
            raise PromotionRefusedError(
                f"{uri} is not what was promoted: {error}; {_RESTORE}"
            ) from None
        if known is None:
            _require_own_code(uri, digests)
        shim = _run(proved / package.SHIM.name)
        shim.load_context(SimpleNamespace(artifacts={"model": str(proved / "artifacts/model")}))
    return LoadedModel(
        name=name,
        version=champion.version,
        class_names=tuple(shim.class_names),
        value_names=tuple(shim.value_names),
        shim=shim,
    )


def expected_manifest(name: str, champion: Champion, promotions: list[Promotion]) -> str:
    """What a version's manifest must hash to.

    Raises:
        PromotionRefusedError: Nobody knows: it is none of ours.
    """
    known = recorded_manifest(name, champion, promotions)
    expected = known or champion.tags.get("archscout.manifest_sha256")
    if expected is None:
        uri = model_uri(name, champion.version)
        raise PromotionRefusedError(f"{uri} was not promoted by archscout, and is not loaded")
    return expected


def recorded_manifest(name: str, champion: Champion, promotions: list[Promotion]) -> str | None:
    """Return what a version's manifest must hash to by the ledger; None if it does not know it."""
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
            f"{uri} brings code that this archscout does not know ({differing[0]}): predict with "
            "the home or the release that promoted it"
        )


def _run(path: Path) -> Any:
    """The model of a code file that was proved."""
    spec = importlib.util.spec_from_file_location("archscout_model", path)
    assert spec is not None  # noqa: S101  # A path that ends in .py has one.
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow misses type hints, which its schema would follow
        spec.loader.exec_module(module)
    return module.ArchscoutModel()
