"""Resources of this machine, found by device files and tools without loading torch."""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import Problem, ProblemsError
from workers.data.limits import usable_cores
from workers.data.spec import NO_DATA, DataSpec

LEAVE_OPEN = (
    "To train on what is found, leave it out or search with --set resources.gpu=null; a study "
    "that exists then continues"
)
"""Suggested fix if the GPUs that a study requests do not exist."""

_HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Environment variables that hide GPUs; torch for ROCm respects all three."""


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Return whether there is a visible GPU that torch supports as `cuda`.

    That is an NVIDIA GPU, or an AMD one if torch is a build for ROCm.
    """
    if any(os.environ.get(name, "0").strip() in {"", "-1"} for name in _HIDING):
        return False
    if (devices / "kfd").exists() and is_rocm_torch():
        return True
    if any(entry.name[6:].isdecimal() for entry in devices.glob("nvidia[0-9]*")):
        return True
    tool = shutil.which("nvidia-smi")  # WSL has no such device file
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, timeout=5, check=False)  # noqa: S603 - found on the user's own path
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU " in listed.stdout


def is_rocm_torch() -> bool:
    """Return whether the installed torch is a build for AMD GPUs, without loading it."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return False
    version = Path(found.origin).with_name("version.py")
    return bool(re.search(r"^hip\b[^=]*=\s*['\"]", version.read_text(), re.MULTILINE))


def idle_gpu(config: StudyConfig, devices: Path = Path("/dev")) -> str:
    """Return the reason why this machine's GPU is not used; empty if none is idle."""
    if config.engine.address is not None or with_gpu_decided(config).resources.gpu:
        return ""
    if has_gpu(devices):
        return "this machine's GPU stays idle, as resources.gpu is 0"
    if (sys.platform, platform.machine()) == ("darwin", "arm64"):
        return "Apple's GPU is not used: training needs CUDA or ROCm"
    if (devices / "kfd").exists() and not is_rocm_torch():
        return "the AMD GPU is not used: the installed torch is no build for ROCm"
    return ""


def with_gpu(config: StudyConfig, gpu: float | None, *, found: bool) -> StudyConfig:
    """Return a config with other GPUs of a trial, found or given by the user."""
    changes = {"gpu": gpu, "gpu_found": found}
    return config.model_copy(update={"resources": config.resources.model_copy(update=changes)})


def with_open_gpu(config: StudyConfig) -> StudyConfig:
    """Return a stored config without the GPUs that were found."""
    return with_gpu(config, None, found=False) if config.resources.gpu_found else config


def with_gpu_decided(config: StudyConfig) -> StudyConfig:
    """Return the config with `resources.gpu` as a number: if open, 1 where a GPU is found, else 0.

    For a cluster at an address it stays open until the engine has asked the cluster.
    """
    if config.resources.gpu is not None or config.engine.address is not None:
        return config
    return with_gpu(config, 1.0 if has_gpu() else 0.0, found=True)


def as_stored(config: StudyConfig, stored: StudyConfig) -> StudyConfig:
    """Return a config with those values of an existing study that need not be repeated.

    These are the GPUs of a trial, which each start may change, and the data set that earlier
    releases recorded for a user's own training without data.
    """
    config = with_gpu(config, stored.resources.gpu, found=stored.resources.gpu_found)
    return with_stored_data(config, stored)


def with_stored_data(config: StudyConfig, stored: StudyConfig) -> StudyConfig:
    """Return a config with the data set that an earlier release recorded if it names none."""
    if config.data.source == NO_DATA and stored.data == DataSpec():
        return config.model_copy(update={"data": stored.data})
    return config


def gpu_change(before: float | None, now: float) -> str:
    """Return a note if trials get other GPUs than at the last start; empty otherwise.

    Args:
        before: GPUs of a trial then; None before the first start.
        now: GPUs of a trial from now on.
    """
    if before is None or before == now:
        return ""
    return f"note: from now on a trial trains on {now:g} GPU, before it was {before:g}"


def check_resources(config: StudyConfig) -> None:
    """Refuse local trials that need more than this machine has.

    Raises:
        ProblemsError: A trial needs more than there is, or the address cannot run a search.
    """
    if config.engine.address is not None:
        if config.engine.address.startswith("ray://"):
            # Ray 2.60 would move the driver with the ledger to the cluster's head.
            text = "Ray's client mode cannot run a search; give the head itself, as HOST:6379"
            place = ("engine", "address")
            raise ProblemsError([Problem(config.name, text=text, path=place)])
        return
    cores = usable_cores()
    problems = []
    if config.resources.cpu > cores:
        text = f"a trial needs {config.resources.cpu:g} cores, {cores} can be used here"
        problems.append(Problem(config.name, text=text, path=("resources", "cpu")))
    if config.resources.gpu and not has_gpu():
        text = "no GPU that torch supports as cuda is found on this machine. "
        text += LEAVE_OPEN
        problems.append(Problem(config.name, text=text, path=("resources", "gpu")))
    if problems:
        raise ProblemsError(problems)
