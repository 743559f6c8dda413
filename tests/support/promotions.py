"""Promotions without a clean process, and with simulated crashes."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import PromotionRefusedError
from orchestrator.ledger import Holder, Ledger
from orchestrator.promotion import loading, winner
from orchestrator.promotion.promoter import Promoter
from orchestrator.promotion.registry import ModelRegistry
from workers import manifest
from workers.storage import LocalFolder

UNUSED_PID = 2**22 + 1


class Dead(BaseException):
    """The promoter's death."""


class Mortal:
    """A ledger's promotions or a registry whose process dies right after its n-th write."""

    def __init__(self, inner: Any, lives: list[int]) -> None:
        self._inner = inner
        self._lives = lives

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        writes = name in {"begin", "advance", "claim", "upload", "version", "tag", "point"}
        writes = writes or name in {"describe", "note"}
        if not writes:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            self._lives[0] -= 1
            if self._lives[0] == 0:
                raise Dead(name)
            return answer

        return call


def open_in_process(registry: ModelRegistry) -> Callable[..., Any]:
    """The steps of the clean process, done here: seconds become a moment."""

    @contextmanager
    def open_model(uri: str, digest: str, code: Mapping[str, str] | None) -> Iterator[Any]:
        _, model, version = uri.rsplit("/", 2)
        with tempfile.TemporaryDirectory() as name:
            verified = Path(name) / "verified"
            verified.mkdir()
            fetched = registry.fetch(model, int(version), Path(name) / "fetched")
            try:
                digests = manifest.verified_copy(fetched, verified, digest)
            except ValueError as error:
                raise PromotionRefusedError(str(error)) from error
            if changed := [name for name in code or {} if digests.get(name) != code[name]]:
                raise PromotionRefusedError(f"{changed[0]} is not archscout's own")
            shim = loading._run(verified / "archscout_model.py")
            shim.load_context(
                SimpleNamespace(artifacts={"model": str(verified / "artifacts/model")})
            )
            yield SimpleNamespace(
                predict=lambda given: shim.predict(None, given).to_dict("list"),
                file=lambda name: (verified / name).read_bytes() if name in digests else None,
            )

    return open_model


def a_promoter(
    home: Path, model: str, *, trial: int | None = None, study: str = "tiny", **parts: Any
) -> Promoter:
    """A promoter for a study's trial, as the command builds it, but without a clean process.

    `lives` makes it die after so many writes; the process that it leaves in the ledger is gone.
    """
    lives = parts.pop("lives", None)
    ledger = Ledger.open(parts.pop("ledger_url", home / "ledger.db"))
    registry: Any = ModelRegistry.open(f"sqlite:///{home / 'mlflow.db'}")
    given: dict[str, Any] = {
        "winner": parts.pop("winner", None) or _winner(home, ledger, study, trial),
        "model": model,
        "alias": "champion",
        "ledger": ledger,
        "registry": registry,
        "open_model": open_in_process(registry),
        "catch_up": lambda: "",
        "sync": f"archscout sync {study}",
        "say": lambda _: None,
        "holder": Holder.of_this_process(),
    }
    if lives is not None:
        left = [lives]
        given["holder"] = replace(Holder.of_this_process(), pid=UNUSED_PID)
        given["registry"] = Mortal(registry, left)
        given["ledger"] = SimpleNamespace(promotions=Mortal(ledger.promotions, left))
    return Promoter(**{**given, **parts})


def _winner(home: Path, ledger: Ledger, study: str, trial: int | None) -> winner.Winner:
    row = ledger.study(study)
    assert row is not None
    config = StudyConfig.from_json(row.config_json)
    chosen = winner.select_trial(ledger.trials(row.id), config, trial)
    return winner.load_winner(ledger, row, config, chosen, LocalFolder(home / "checkpoints"))
