"""Disk usage of files by kind, measured before they are deleted."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.formatting import format_bytes, format_table
from workers.storage import Storage

LOG_FILE = re.compile(r"(\d+|projector)\.log")
"""Names of files in a study's log folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """Disk usage of one kind of files.

    Example:
        >>> DiskUsage(kind="trials in the ledger", count=3, files=0, bytes=0)
    """

    kind: str
    count: int
    """Number of objects of this kind: checkpoints, runs, ..."""
    files: int
    bytes: int

    @classmethod
    def of(cls, kind: str, paths: Sequence[Storage], *, count: int | None = None) -> "DiskUsage":
        """Measure files and folders; missing ones count as empty."""
        sizes = [size for path in paths for size in path.sizes().values()]
        things = len([path for path in paths if path.exists()]) if count is None else count
        return cls(kind=kind, count=things, files=len(sizes), bytes=sum(sizes))


def format_usage(usage: Sequence[DiskUsage]) -> str:
    """Return a table with the total in the last row."""
    rows = [[u.kind, f"{u.count:,}", f"{u.files:,}", format_bytes(u.bytes)] for u in usage]
    files, size = sum(u.files for u in usage), sum(u.bytes for u in usage)
    rows.append(["total", "", f"{files:,}", format_bytes(size)])
    head = ["what", "number", "files", "size"]
    return format_table(head, rows, right=head[1:])


def as_json(usage: Sequence[DiskUsage]) -> dict[str, Any]:
    """Return the usage as JSON data."""
    return {
        "frees": [
            {"what": u.kind, "number": u.count, "files": u.files, "bytes": u.bytes} for u in usage
        ],
        "bytes": sum(u.bytes for u in usage),
    }


def remove(paths: Iterable[Storage], root: Storage) -> None:
    """Delete files and folders below the root; links are removed, not followed.

    Raises:
        PathOutsideError: A path is outside the root; it and the later ones are kept.
        OSError: A path cannot be deleted.
    """
    for path in paths:
        path.remove(root)


def study_files(folder: Storage, names: re.Pattern[str]) -> list[Storage]:
    """Return the files of a study in its folder; the folder itself if it holds nothing else.

    A link in place of the folder, and files that a user added, do not belong to the study.

    Args:
        folder: Folder of the study.
        names: Pattern of the names of the study's entries.
    """
    if folder.is_link():
        return []
    found = folder.entries()
    made = [path for path in found if names.fullmatch(path.name)]
    return [folder] if made == found else made
