"""Addresses of MLflow's stores and pages; loads no MLflow."""

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from search_spaces.errors import ArchscoutError, ExitCode
from workers.redaction import has_stray_at

_SERVERS = ("http", "https")
_DRIVERS: Mapping[str, str] = {
    "sqlite": "sqlite3",
    "sqlite+pysqlite": "sqlite3",
    "postgresql": "psycopg2",
    "postgresql+psycopg2": "psycopg2",
    "postgresql+psycopg": "psycopg",
    "postgresql+pg8000": "pg8000",
    "mysql": "MySQLdb",
    "mysql+mysqldb": "MySQLdb",
    "mysql+pymysql": "pymysql",
    "mysql+mysqlconnector": "mysql",
    "mssql": "pyodbc",
    "mssql+pyodbc": "pyodbc",
    "mssql+pymssql": "pymssql",
}
"""Python module required by each database scheme."""
_DATABRICKS = ("databricks", "databricks-uc", "uc")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ALLOWED = (
    "Allowed: the http:// or https:// address of an MLflow server, or a database "
    "(sqlite:///FILE, postgresql://, mysql://, mssql://)"
)
VIEW = "leaderboard"
"""Name of the view in which a study's link opens its table of runs."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
"""Tag of the experiment that contains the view."""
_MODELS = "workflowType=machine_learning"
"""Prevents MLflow's pages (3.17.2) from opening in their mode for prompts and agents."""


class StoreAddressError(ArchscoutError, ValueError):
    """MLflow cannot be used at an address; the message quotes no part that may be secret."""

    exit_code = ExitCode.INPUT


def require_usable(uri: str, variable: str = "MLFLOW_TRACKING_URI") -> None:
    """Check an address without opening it.

    Args:
        uri: The address.
        variable: The environment variable that names it.

    Raises:
        StoreAddressError: No store of MLflow that archscout can use has such an address.
    """
    scheme = _scheme(uri)
    if scheme in _SERVERS:
        if not _names_host(uri):
            raise StoreAddressError(f"{variable}: names no valid host and port. {_ALLOWED}")
    elif scheme in _DATABRICKS:
        raise StoreAddressError(
            f"{variable}: Databricks ({scheme}) is not supported, because its experiments and "
            f"models have names of another form. {_ALLOWED}. Unset it, or name one of these"
        )
    elif scheme not in _DRIVERS:
        what = f"{scheme}: is not a store" if scheme else "a folder is not a store"
        raise StoreAddressError(f"{variable}: {what} that archscout can use. {_ALLOWED}")
    elif not scheme.startswith("sqlite") and has_stray_at(uri):
        raise StoreAddressError(
            f"{variable}: an unescaped '@' or '?' in its user or password; write them as %40 and "
            "%3F (and '/' as %2F, ':' as %3A)"
        )
    elif importlib.util.find_spec(_DRIVERS[scheme]) is None:
        raise StoreAddressError(
            f"{variable}: {scheme}:// needs the Python module {_DRIVERS[scheme]}, which is not "
            "installed. Install it, or name another driver in the address (DATABASE+DRIVER://)"
        )
    elif sqlite_file(uri) in {Path(), Path(":memory:")}:
        raise StoreAddressError(f"{variable}: sqlite:// names no file. Allowed: sqlite:///FILE")


def is_server(uri: str) -> bool:
    """Return whether the address is that of an MLflow server, which then stores the files."""
    return _scheme(uri) in _SERVERS


def is_database(uri: str) -> bool:
    """Return whether the store is a database that this machine opens itself."""
    return _scheme(uri) in _DRIVERS


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite store, `Path()` if the address names none; None for others."""
    if _scheme(uri).partition("+")[0] != "sqlite":
        return None
    return Path(unquote(uri.partition(":///")[2].partition("?")[0]))


def registry_uri(tracking_uri: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of the model registry: MLFLOW_REGISTRY_URI, else that of the runs."""
    return environment.get("MLFLOW_REGISTRY_URI") or tracking_uri


def require_registry(tracking_uri: str) -> None:
    """Check the addresses of the runs and of the model registry.

    Raises:
        StoreAddressError: As `require_usable`.
    """
    require_usable(tracking_uri)
    require_usable(registry_uri(tracking_uri), "MLFLOW_REGISTRY_URI")


def public_address(uri: str) -> str:
    """Return the address of a server without login and query."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def runs_page(experiment_id: str, *, view: bool = True) -> str:
    """Return the path of the page that lists the trials, relative to the server's address.

    Args:
        experiment_id: The experiment's id.
        view: Whether it has our view, which lists them as a leaderboard.
    """
    shown = f"viewStateShareKey={VIEW}&" if view else ""
    return f"#/experiments/{experiment_id}/runs?{shown}{_MODELS}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the path of a run's page, which works as a link from any of MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_MODELS}"


def _scheme(uri: str) -> str:
    """Return the scheme in lower case; `databricks` may come without a colon."""
    if uri.lower() in _DATABRICKS:
        return uri.lower()
    found = _SCHEME.match(uri)  # `urlsplit` raises on a malformed host
    return found[1].lower() if found else ""


def _names_host(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text may contain a part of a password
        return False
