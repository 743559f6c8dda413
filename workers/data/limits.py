"""Memory and cores that this process may use, limits of its container included."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Mount point of Linux control groups."""

MEMBERSHIP = Path("/proc/self/cgroup")
"""File that names the control groups of this process."""


def available_bytes(group: Path = CONTROL_GROUP) -> int:
    """Return the memory in bytes that is available without swapping."""
    free = int(psutil.virtual_memory().available)
    # Version 2 of control groups, then version 1.
    for limit, used, cache, folder in (
        ("memory.max", "memory.current", "inactive_file", group),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", group / "memory"),
    ):
        maximum, taken = _number(folder / limit), _number(folder / used)
        if maximum is not None and taken is not None:
            # The kernel frees cached file pages before it refuses an allocation.
            return max(0, min(free, maximum - taken + _statistic(folder / "memory.stat", cache)))
    return free


def max_array_bytes() -> int:
    """Return the maximum size of arrays in bytes: splitting them needs the same amount again."""
    return available_bytes() // 2


def usable_cores(group: Path = CONTROL_GROUP, member: Path = MEMBERSHIP) -> int:
    """Return the number of usable cores: the CPU affinity, bounded by the control group's quota.

    Args:
        group: Mount point of control groups.
        member: File that names the control groups of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min([float(cores or 1), *_quotas(group, member)])))


def _quotas(group: Path, member: Path) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of this process's control group and its parents."""
    try:
        lines = member.read_text().splitlines()
    except OSError:  # not Linux, or hidden
        lines = ["0::/"]
    for line in lines:
        controllers, _, own = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = group / controllers if controllers else group
        # Inside a container the path may be that of the host, which is not visible.
        places = [mount, *(mount / part for part in _ancestry(own))]
        yield from filter(None, map(_quota, places))


def _ancestry(path: str) -> list[str]:
    """Return a group's path and its parents, relative to the mount."""
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _quota(place: Path) -> float | None:
    """Return the quota of a control group of either version, in cores; None without a limit."""
    with contextlib.suppress(OSError, ValueError):
        if (place / "cpu.max").exists():
            quota, period = map(int, (place / "cpu.max").read_text().split())
        else:
            quota = int((place / "cpu.cfs_quota_us").read_text())
            period = int((place / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 and period > 0 else None
    return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    """Return one entry of a file of names and numbers; 0 if it is missing."""
    try:
        entries = dict(line.split() for line in path.read_text().splitlines())
        return int(entries.get(name, 0))
    except (OSError, ValueError):
        return 0
