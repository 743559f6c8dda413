"""What this machine has to train on, found without loading torch.

Knows device files and tools only; whether a worker can use what is found is the worker's to say.
"""

import os
import shutil
import subprocess
from pathlib import Path

from orchestrator.config import StudyConfig


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether an NVIDIA GPU is there and not hidden from us."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return False
    if any(entry.name[6:].isdecimal() for entry in devices.glob("nvidia[0-9]*")):
        return True
    tool = shutil.which("nvidia-smi")  # under WSL there is no device file of that name
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, timeout=5, check=False)  # noqa: S603 - found on the user's own path
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU " in listed.stdout


def with_gpu_decided(config: StudyConfig) -> StudyConfig:
    """The config with `resources.gpu` as a number: 1 where nothing was said and one is found."""
    if config.resources.gpu is not None:
        return config
    found = config.engine.address is None and has_gpu()
    resources = config.resources.model_copy(update={"gpu": 1.0 if found else 0.0})
    return config.model_copy(update={"resources": resources})
