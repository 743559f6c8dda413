"""A promoted network that a candidate may learn from.

Read as plain data, weights and architecture: the code that travels with a model is not run.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.model_output import ModelOutput
from search_spaces.task import Task
from workers.batches import Normalisation
from workers.failures import BadCandidate
from workers.job import TeacherRef

FACTS = "model.json"
WEIGHTS = "weights.safetensors"


def digest(folder: Path) -> str:
    """SHA-256 over both of a teacher's files.

    Raises:
        OSError: One cannot be read.
    """
    found = hashlib.sha256()
    for name in (FACTS, WEIGHTS):
        found.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return found.hexdigest()


class Teacher:
    """Answers as the promoted network does, for the same examples."""

    def __init__(self, reference: TeacherRef, task: Task, device: torch.device) -> None:
        """Prove the files and build the network.

        Raises:
            BadCandidate: The files are not those that were fetched, or answer another task.
            OSError: One cannot be read.
        """
        folder = Path(reference.path)
        if digest(folder) != reference.sha256:
            raise BadCandidate(f"the teacher in {folder} is not what was fetched; start anew")
        facts = json.loads((folder / FACTS).read_bytes())
        theirs = {name: tuple(shape) for name, shape in facts["inputs"].items()}
        if theirs != dict(task.inputs) or len(facts["class_names"]) != task.num_classes:
            raise BadCandidate(
                f"the teacher reads {theirs} and tells {len(facts['class_names'])} classes; this "
                f"study's data has {dict(task.inputs)} and {task.num_classes}"
            )
        network = Architecture.from_dict(facts["candidate"]["architecture"]).build(task)
        network.load_state_dict(safetensors.torch.load((folder / WEIGHTS).read_bytes()))
        self.network = network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.normalisation = _normalisation(facts["normalisation"])

    def __call__(self, raw: Mapping[str, Tensor]) -> ModelOutput:
        """What the teacher gives for examples in the data's units."""
        with torch.no_grad():
            inputs = {name: self.normalisation.apply(name, values) for name, values in raw.items()}
            output: ModelOutput = self.network(inputs)
        return output


def _normalisation(kept: Mapping[str, Any]) -> Normalisation:
    return Normalisation(
        mean={name: tuple(each["mean"]) for name, each in kept.items()},
        deviation={name: tuple(each["deviation"]) for name, each in kept.items()},
    )
