"""How much memory and how many cores there are to use, whatever box this process was put into."""

import os
from pathlib import Path

import psutil

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""


def available_bytes(group: Path = CONTROL_GROUP) -> int:
    """Memory that can be had now without swapping."""
    free = int(psutil.virtual_memory().available)
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    return free if limit is None or used is None else max(0, min(free, limit - used))


def most_bytes() -> int:
    """Size above which arrays are refused: the parts that are cut from them need as much again."""
    return available_bytes() // 2


def usable_cores(group: Path = CONTROL_GROUP) -> int:
    """Cores that this process may keep busy."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = (group / "cpu.max").read_text().split()
        share = int(quota) / int(period)
    except (OSError, ValueError):  # no control group, or no limit
        return max(1, cores or 1)
    return max(1, min(cores or 1, int(share)))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
