"""Addresses of MLflow: what can be used is used as what it is, the rest is refused before work."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli import main
from orchestrator.tracking.addresses import (
    StoreAddressError,
    is_database,
    is_server,
    public_address,
    registry_uri,
    require_registry,
    require_usable,
    sqlite_file,
)
from orchestrator.tracking.client import open_client

SECRET = "s3cr3t"
WRONG = [
    "databricks",
    "databricks://profile",
    "databricks-uc",
    "uc:http://host",
    "mlflow-artifacts:/a",
    "file:///tmp/mlruns",
    "/tmp/mlruns",
    "mysql+foo://me:s3cr3t@host/db",
    "postgres://me:s3cr3t@host/db",
    "oracle://me:s3cr3t@host/db",
    "arn:aws:sagemaker:eu:1:mlflow-tracking-server/s",
    "http://",
    "http://[::1",
    "http://host:99999",
    "https://me:s3cr3t/@host:81",
    "sqlite://",
    "sqlite:///:memory:",
]


@pytest.mark.parametrize("uri", WRONG)
def test_unusable_addresses_are_refused_without_quoting_secrets(uri: str) -> None:
    with pytest.raises(StoreAddressError, match=r"^MLFLOW_TRACKING_URI: ") as refused:
        require_usable(uri)
    assert SECRET not in str(refused.value)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(StoreAddressError, match="needs the Python module MySQLdb"):
        require_usable("mysql://me:s3cr3t@host/db")


@pytest.mark.parametrize(
    ("uri", "served", "database"),
    [
        ("http://host:5000", True, False),
        ("HTTPS://me:s3cr3t@host/path", True, False),
        ("sqlite:////tmp/mlflow.db", False, True),
        ("postgresql+psycopg://me@host/db", False, True),
    ],
)
def test_usable_addresses_are_recognized_by_their_scheme(
    uri: str, *, served: bool, database: bool
) -> None:
    require_usable(uri)
    assert (is_server(uri), is_database(uri)) == (served, database)


@given(
    st.text("abcXYZ0-9_ .é", min_size=1).filter(lambda name: name.strip(".")),
    st.sampled_from(["", "?timeout=30", "?cache=shared&uri=true"]),
    st.sampled_from(["sqlite", "sqlite+pysqlite"]),
)
def test_the_file_of_a_store_is_found_before_any_query(name: str, query: str, scheme: str) -> None:
    assert sqlite_file(f"{scheme}:////tmp/{name}{query}") == Path(f"/tmp/{name}")


def test_the_registry_may_have_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = "https://runs"
    assert registry_uri(runs) == runs
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://models")
    client = open_client(runs)
    assert (client.tracking_uri, client._registry_uri) == (runs, "https://models")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    open_client(runs)  # a search shows its runs without the registry
    with pytest.raises(StoreAddressError, match=r"^MLFLOW_REGISTRY_URI: Databricks"):
        require_registry(runs)


@given(st.sampled_from(["", "me:s3cr3t@", "s3cr3t@"]), st.sampled_from(["", "?token=s3cr3t"]))
def test_the_public_address_contains_no_login(login: str, query: str) -> None:
    assert public_address(f"https://{login}host:81/ml{query}") == "https://host:81/ml"


@pytest.mark.parametrize(
    "command",
    [
        ["search", "surrogate", "--trials", "1", "--engine", "in_process"],
        ["predict", "a@b", "x.npy"],
    ],
)
@pytest.mark.parametrize("uri", ["databricks://profile", "mysql+foo://me:s3cr3t@host/db"])
def test_every_command_refuses_a_wrong_address_and_creates_nothing(
    command: list[str],
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.npy").write_bytes(b"")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(command) == 2
    said = capsys.readouterr()
    assert "MLFLOW_TRACKING_URI: " in said.err
    assert SECRET not in said.err + said.out
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
