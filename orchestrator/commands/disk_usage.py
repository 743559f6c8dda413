"""What cleaning up would free: files by kind, measured before they are touched.

Knows files only; what nobody needs any more is for others to say.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.formatting import format_bytes, format_table
from workers.storage import Storage

LOG_FILE = re.compile(r"(\d+|projector)\.log")
"""Names in a study's folder of logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """What of one kind would go."""

    kind: str
    count: int
    """How many things of this kind."""
    files: int
    bytes: int

    @classmethod
    def of(cls, kind: str, paths: Sequence[Storage], *, count: int | None = None) -> "DiskUsage":
        """Files and folders, measured; missing ones count nothing."""
        sizes = [size for path in paths for size in path.sizes().values()]
        things = len([path for path in paths if path.exists()]) if count is None else count
        return cls(kind=kind, count=things, files=len(sizes), bytes=sum(sizes))


def shown(portions: Sequence[DiskUsage]) -> str:
    """The portions as people read them, with their sum."""
    rows = [[p.kind, f"{p.count:,}", f"{p.files:,}", format_bytes(p.bytes)] for p in portions]
    files, size = sum(p.files for p in portions), sum(p.bytes for p in portions)
    rows.append(["in all", "", f"{files:,}", format_bytes(size)])
    head = ["what", "number", "files", "size"]
    return format_table(head, rows, right=head[1:])


def as_json(portions: Sequence[DiskUsage]) -> dict[str, Any]:
    """The portions as JSON has them."""
    return {
        "frees": [
            {"what": p.kind, "number": p.count, "files": p.files, "bytes": p.bytes}
            for p in portions
        ],
        "bytes": sum(p.bytes for p in portions),
    }


def remove(paths: Iterable[Storage], root: Storage) -> None:
    """Delete files and folders below the root; links are removed, not followed.

    Raises:
        PathOutsideError: One lies elsewhere; it and those after it stay.
        OSError: One cannot be deleted.
    """
    for path in paths:
        path.remove(root)


def made_here(folder: Storage, names: re.Pattern[str]) -> list[Storage]:
    """Return what a study made in its folder: the folder itself if nothing else lies in it.

    A link in the folder's place, and files that somebody added, are not the study's.

    Args:
        folder: The study's.
        names: What the study calls its entries.
    """
    if folder.is_link():
        return []
    found = folder.entries()
    made = [path for path in found if names.fullmatch(path.name)]
    return [folder] if made == found else made
