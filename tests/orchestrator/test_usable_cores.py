"""Cores that may be used: what a container, a scheduler or `taskset` leaves of the machine's."""

import os
from pathlib import Path

import pytest

from orchestrator.config.schema import StudyConfig
from orchestrator.preflight.timing import slots_of
from workers.data.limits import usable_cores

WHOLE = 64


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 cores, all of them in our affinity."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(WHOLE)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: WHOLE)


def put(place: Path, **files: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("groups", "member", "cores"),
    [
        ({}, None, WHOLE),
        ({"": {"cpu__max": "max 100000"}}, "0::/", WHOLE),
        ({"": {"cpu__max": "400000 100000"}}, "0::/", 4),
        ({"": {"cpu__max": "400000 100000"}}, None, 4),
        ({"": {"cpu__max": "50000 100000"}}, "0::/", 1),
        # A job of a scheduler: its limit is that of a group above the process's own.
        ({"slurm/job_7": {"cpu__max": "800000 100000"}}, "0::/slurm/job_7/step_0", 8),
        ({"slurm": {"cpu__max": "3 1"}, "slurm/job_7": {"cpu__max": "8 1"}}, "0::/slurm/job_7", 3),
        # A container whose path is the host's, seen from inside.
        ({"": {"cpu__max": "200000 100000"}}, "0::/../../pod7/container", 2),
        # Version 1 of control groups.
        (
            {"cpu,cpuacct/docker/a": {"cpu.cfs_quota_us": "600000", "cpu.cfs_period_us": "100000"}},
            "5:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n0::/",
            6,
        ),
        (
            {"cpu": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}},
            "4:cpu:/",
            WHOLE,
        ),
        ({"": {"cpu__max": "nonsense"}}, "nonsense", WHOLE),
    ],
)
def test_a_quota_of_any_group_above_counts(
    groups: dict[str, dict[str, str]], member: str | None, cores: int, tmp_path: Path
) -> None:
    for place, files in groups.items():
        put(tmp_path / "fs" / place, **files)
    membership = tmp_path / "cgroup"
    if member is not None:
        membership.write_text(f"{member}\n")
    assert usable_cores(tmp_path / "fs", membership) == cores


def test_the_affinity_counts_and_not_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert usable_cores(tmp_path, tmp_path / "none") == 2


def test_slots_of_this_machine_are_counted_by_usable_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.preflight.timing.usable_cores", lambda: 5)
    asked = StudyConfig.model_validate(
        {"name": "a", "space": "tiny", "resources": {"cpu": 2, "gpu": 0}}
    )
    assert slots_of(asked) == 2
