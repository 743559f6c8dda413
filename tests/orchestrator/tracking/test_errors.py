"""Messages on a failing store, independent of the library that raised."""

import errno
import socket
from collections.abc import Iterator

import pytest
from mlflow.exceptions import MlflowException

from orchestrator.tracking.client import open_client
from orchestrator.tracking.deletion import StoreUnavailableError, mlflow_errors
from orchestrator.tracking.errors import as_mlflow_errors, reason


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:  # never listens
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_the_message_on_an_unreachable_server_has_the_cause(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException) as failed:
        open_client(f"http://127.0.0.1:{closed_port}").get_experiment_by_name("x")
    assert reason(failed.value).endswith("failed with exception [Errno 111] Connection refused")


@pytest.mark.filterwarnings("ignore:.*noload")  # from MLflow's own store
def test_an_unreachable_database_is_not_an_internal_error(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", lambda _: None)
    address = f"postgresql+psycopg://me:s3cr3t@127.0.0.1:{closed_port}/db"
    with (
        pytest.raises(StoreUnavailableError, match="Connection refused") as failed,
        mlflow_errors(),
    ):
        open_client(address)
    assert "s3cr3t" not in str(failed.value)


@pytest.mark.parametrize(
    "raised",
    [ModuleNotFoundError("No module named 'boto3'"), NotADirectoryError(20, "Not a directory")],
)
def test_errors_of_a_store_library_suggest_a_fix(raised: Exception) -> None:
    with pytest.raises(StoreUnavailableError) as failed, mlflow_errors(), as_mlflow_errors():
        raise raised
    assert str(failed.value).startswith(f"MLflow: {type(raised).__name__}: ")
    assert str(failed.value).endswith("Fix it, then run the same command again")


def test_a_full_disk_is_not_converted() -> None:
    with pytest.raises(OSError, match="full"), as_mlflow_errors():
        raise OSError(errno.ENOSPC, "full")
