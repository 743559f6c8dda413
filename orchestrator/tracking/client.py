"""Opening of MLflow's store."""

import contextlib
import sqlite3

from mlflow import MlflowClient

from orchestrator.network_filesystem import MLFLOW_SERVER, refuse_network_disk
from orchestrator.tracking.addresses import registry_uri, require_usable, sqlite_file
from orchestrator.tracking.errors import as_mlflow_errors
from orchestrator.tracking.transport import use_safe_requests


def open_client(uri: str) -> MlflowClient:
    """Return a client with explicit addresses, independent of MLflow's global state.

    A store in an SQLite file is switched to WAL mode permanently: pages can be read while the
    search writes, and a commit costs one fsync instead of three.

    Raises:
        StoreAddressError: MLflow cannot be used at the address.
        NetworkFilesystemError: It is a file on a network file system.
        MlflowException: The store does not respond.
    """
    require_usable(uri)
    if (path := sqlite_file(uri)) is not None:
        refuse_network_disk(path, "MLflow's database", MLFLOW_SERVER)
    use_safe_requests()
    with as_mlflow_errors():
        client = MlflowClient(tracking_uri=uri, registry_uri=registry_uri(uri))
    if path is not None:
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as file:
            file.execute("PRAGMA journal_mode=WAL").fetchone()
    return client
