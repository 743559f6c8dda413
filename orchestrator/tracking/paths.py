"""Paths of a home's artifacts and locks, and the update of MLflow's database when a home moved.

MLflow stores absolute addresses of files. A home that was renamed or copied contains both the files
and the database, so addresses of files in it can be updated. Loads no MLflow.
"""

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from orchestrator.config.schema import NAME_PATTERN
from workers.paths import beneath

_ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Columns of MLflow 3.17 that hold addresses of files."""


def artifact_folder(artifacts: Path, name: str) -> Path:
    """Return the folder of an experiment's files: its name if it is one of ours, else a slug of it.

    Raises:
        PathOutsideError: A link leads out of the artifacts' folder.
    """
    return beneath(artifacts.absolute() / _slug(name), artifacts)


def _slug(name: str) -> str:
    if not re.fullmatch(rf"archscout/{NAME_PATTERN}", name):
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
        return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
    return name


def projection_lock(home: Path, study: str) -> FileLock:
    """Return the lock that a study's projection holds; the system frees it when its process dies.

    Raises:
        PathOutsideError: A link leads out of the folder of locks.
    """
    locks = home / "locks"
    path = beneath(locks / f"{study}.projector", locks)
    locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileLock(path, mode=0o600, fallback_to_soft=False)


def update_artifact_addresses(home: Path) -> int:
    """Update the artifact addresses in the home's MLflow database, if the home was moved or copied.

    Only experiments whose files are in this home's `artifacts` change, and none while a projection
    runs in this home, perhaps under another path (of a container, for example).

    Returns:
        The number of experiments that changed.
    """
    database, artifacts = home / "mlflow.db", home / "artifacts"
    if not database.is_file() or not artifacts.is_dir():
        return 0
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_open(database)) as store:
        moved = dict(_moved_experiments(store, artifacts))
        if moved and not _is_projecting(home):
            with store:
                store.execute("BEGIN IMMEDIATE")
                for old in sorted(set(moved.values())):
                    _replace(store, f"{old}/", f"{artifacts.absolute().as_uri()}/")
            return len(moved)
    return 0


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(database, timeout=5, isolation_level=None)


def _moved_experiments(store: sqlite3.Connection, artifacts: Path) -> Iterator[tuple[int, str]]:
    """Yield the id and the old artifacts folder of experiments whose files are now present."""
    present = artifacts.absolute().as_uri()
    for number, name, place in store.execute(
        "SELECT experiment_id, name, artifact_location FROM experiments"
        " WHERE artifact_location LIKE 'file:///%'"
    ):
        # Releases before slugs used the name itself.
        for tail in {_slug(name), name}:
            root = str(place).removesuffix(f"/{quote(tail)}")
            if place not in {root, f"{present}/{quote(tail)}"} and _is_in(
                artifacts / tail, artifacts
            ):
                yield number, root


def _is_in(folder: Path, artifacts: Path) -> bool:
    with contextlib.suppress(ValueError):
        return beneath(folder, artifacts).is_dir()
    return False


def _replace(store: sqlite3.Connection, old: str, new: str) -> None:
    for table, columns in _ADDRESSES.items():
        known = {row[1] for row in store.execute(f"PRAGMA table_info({table})")}
        for column in sorted(known & {*columns}):
            store.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"  # noqa: S608  # Our words.
                f" WHERE substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old), old),
            )


def _is_projecting(home: Path) -> bool:
    """Return whether a projection of any study of this home is running."""
    for path in (home / "locks").glob("*.projector"):
        try:
            with projection_lock(home, path.stem).acquire(blocking=False):
                pass
        except Timeout:
            return True
    return False
