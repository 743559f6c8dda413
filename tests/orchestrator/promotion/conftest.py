"""One small finished study per test file; each test promotes it to a model of its own name."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mlflow.pyfunc 3.17.2 warns of its own types
    from orchestrator.promotion import package, promoter

os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promotion") / "home"
    search = ["search", "tiny", "--trials", "3", "--set", "pruner.name=none", "--quiet"]
    assert main(["--home", str(folder), *search]) == 0
    return folder


@pytest.fixture(scope="module")
def promoted(home: Path) -> Path:
    """The home, with the best trial promoted to `digits` by the command."""
    assert main(["--home", str(home), "promote", "tiny", "--model", "digits", "--quiet"]) == 0
    return home


@pytest.fixture
def quick_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models are built once a test and copied from then on: MLflow takes a second to write one."""
    build = package.build
    built: dict[str, str] = {}

    def copy(folder: Path, contents: Any) -> str:
        uid = str(contents.origin["trial_uid"])
        if uid not in built:
            built[uid] = build(tmp_path / "built" / uid, contents)
        shutil.copytree(tmp_path / "built" / uid, folder)
        return built[uid]

    (tmp_path / "built").mkdir()
    monkeypatch.setattr(promoter.package, "build", copy)


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str], home: Path) -> Callable[..., tuple[int, Any, str]]:
    """Runs a command: its exit status, its JSON document and what it complained of."""

    def run(*words: str, at: Path = home) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = main(["--home", str(at), "--json", *words])
        said = capsys.readouterr()
        return code, json.loads(said.out), said.err

    return run
