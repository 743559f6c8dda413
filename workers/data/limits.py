"""How much memory and how many cores there are to use, whatever box this process was put into."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""

MEMBERSHIP = Path("/proc/self/cgroup")
"""Where it says which control groups this process is in."""


def available_bytes(group: Path = CONTROL_GROUP) -> int:
    """Memory that can be had now without swapping."""
    free = int(psutil.virtual_memory().available)
    # Version 2 of control groups, then version 1.
    for limit, used, cache, folder in (
        ("memory.max", "memory.current", "inactive_file", group),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", group / "memory"),
    ):
        most, taken = _number(folder / limit), _number(folder / used)
        if most is not None and taken is not None:
            # Pages of files that nobody reads are given back before anything is refused.
            return max(0, min(free, most - taken + _statistic(folder / "memory.stat", cache)))
    return free


def max_array_bytes() -> int:
    """Size above which arrays are refused: the parts that are cut from them need as much again."""
    return available_bytes() // 2


def usable_cores(group: Path = CONTROL_GROUP, member: Path = MEMBERSHIP) -> int:
    """Cores that this process may keep busy: its affinity, bounded by the CPU quota of its group.

    Args:
        group: Where control groups are mounted.
        member: What says which of them this process is in.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min([float(cores or 1), *_quotas(group, member)])))


def _quotas(group: Path, member: Path) -> Iterator[float]:
    """CPU quotas, in cores, of this process's control group and of those that it lies in."""
    try:
        lines = member.read_text().splitlines()
    except OSError:  # not Linux, or hidden
        lines = ["0::/"]
    for line in lines:
        controllers, _, own = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = group / controllers if controllers else group
        # Inside a container the path may be that of the host, which is not there to be seen.
        places = [mount, *(mount / part for part in _ancestry(own))]
        yield from filter(None, map(_quota, places))


def _ancestry(path: str) -> list[str]:
    """A group's path and those above it, relative to the mount."""
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _quota(place: Path) -> float | None:
    """The quota of one control group of either version, in cores; None without a limit."""
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
    """One entry of a file of names and numbers; 0 where it is not there."""
    try:
        entries = dict(line.split() for line in path.read_text().splitlines())
        return int(entries.get(name, 0))
    except (OSError, ValueError):
        return 0
