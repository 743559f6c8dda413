"""An MLflow store that costs no migration, and a study to show in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stories import Story

from orchestrator.tracking.client import open_client


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client = open_client(f"sqlite:///{path}")
    # A copy of the file alone must be whole: closing the last connection folds the WAL into it.
    client._tracking_client.store.engine.dispose()
    return path


@pytest.fixture
def story(tmp_path: Path, empty_store: Path) -> Iterator[Story]:
    opened = Story(tmp_path / "home", empty_store)
    yield opened
    opened.ledger.close()
