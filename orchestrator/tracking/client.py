"""The one way in which MLflow's store is opened."""

import contextlib
import sqlite3

from mlflow import MlflowClient

_SQLITE = "sqlite:///"


def open_client(uri: str) -> MlflowClient:
    """A client with explicit addresses; nothing of MLflow's global state is touched.

    A store in an SQLite file is put into WAL mode, which lasts: people look at the pages while the
    search writes, and a commit costs one fsync instead of three.

    Raises:
        MlflowException: The store does not answer.
    """
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    if uri.startswith(_SQLITE):
        with contextlib.closing(sqlite3.connect(uri.removeprefix(_SQLITE), timeout=20)) as file:
            file.execute("PRAGMA journal_mode=WAL").fetchone()
    return client
