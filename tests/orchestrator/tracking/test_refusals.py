"""What people read of a store that fails, whichever library raised."""

import errno
import socket
from collections.abc import Iterator

import pytest
from mlflow.exceptions import MlflowException

from orchestrator.tracking.client import open_client
from orchestrator.tracking.deletion import StoreUnavailableError, answering
from orchestrator.tracking.refusals import as_mlflow_errors, reason


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:  # never listens
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_server_that_is_away_is_named_with_the_cause(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException) as failed:
        open_client(f"http://127.0.0.1:{closed_port}").get_experiment_by_name("x")
    assert reason(failed.value).endswith("failed with exception [Errno 111] Connection refused")


@pytest.mark.filterwarnings("ignore:.*noload")  # of MLflow's own store, as it is loaded
def test_a_database_that_is_away_is_no_internal_error(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", lambda _: None)
    address = f"postgresql+psycopg://me:s3cr3t@127.0.0.1:{closed_port}/db"
    with pytest.raises(StoreUnavailableError, match="Connection refused") as failed, answering():
        open_client(address)
    assert "s3cr3t" not in str(failed.value)


@pytest.mark.parametrize(
    "raised",
    [ModuleNotFoundError("No module named 'boto3'"), NotADirectoryError(20, "Not a directory")],
)
def test_what_a_store_library_raises_is_told_with_what_to_do(raised: Exception) -> None:
    with pytest.raises(StoreUnavailableError) as failed, answering(), as_mlflow_errors():
        raise raised
    assert str(failed.value).startswith(f"MLflow: {type(raised).__name__}: ")
    assert str(failed.value).endswith("After mending, give the same command again")


def test_a_full_disk_stays_a_full_disk() -> None:
    with pytest.raises(OSError, match="full"), as_mlflow_errors():
        raise OSError(errno.ENOSPC, "full")
