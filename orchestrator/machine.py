"""What this machine has to train on, found without loading torch.

Knows device files and tools only; whether a worker can use what is found is the worker's to say.
"""

import os
import shutil
import subprocess
from pathlib import Path

from orchestrator.config import StudyConfig
from orchestrator.problems import Problem, ProblemsError
from workers.data.memory import usable_cores


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


def refuse_what_does_not_fit(config: StudyConfig) -> None:
    """Refuses trials that are larger than this machine, where they are to run on it.

    Raises:
        ProblemsError: A trial asks for more than there is, or nothing can run at the address.
    """
    if config.engine.address is not None:
        if config.engine.address.startswith("ray://"):
            # Ray 2.60 would carry the driver, ledger and all, to the cluster's head.
            text = "Ray's client mode cannot run a search; give the head itself, as HOST:6379"
            place = ("engine", "address")
            raise ProblemsError([Problem(config.name, text=text, path=place)])
        return
    cores = usable_cores()
    problems = []
    if config.resources.cpu > cores:
        text = f"a trial asks for {config.resources.cpu:g} cores, {cores} can be used here"
        problems.append(Problem(config.name, text=text, path=("resources", "cpu")))
    if config.resources.gpu and not has_gpu():
        text = "no GPU is found on this machine; say 0, or leave it out"
        problems.append(Problem(config.name, text=text, path=("resources", "gpu")))
    if problems:
        raise ProblemsError(problems)
