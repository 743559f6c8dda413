"""Teacher: a promoted network that candidates distil from.

It is built from its architecture and weights as plain data; code in the model is not run.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from search_spaces.architecture import Architecture
from search_spaces.model_output import ModelOutput
from search_spaces.task import Task
from workers import manifest
from workers.data import Dataset, Preprocessing
from workers.data.preprocessing import unit_mismatch
from workers.failures import BadCandidateError
from workers.job import TeacherRef
from workers.manifest import verified_files
from workers.storage import storage_at
from workers.training.batches import Normalisation

FACTS = "model.json"
WEIGHTS = "weights.safetensors"


def task_mismatch(facts: Mapping[str, Any], dataset: Dataset) -> str | None:
    """Return the reason why a teacher cannot be used for a data set; None if it can.

    Args:
        facts: Description of the teacher, from `model.json`.
        dataset: Data set of the study.
    """
    theirs = {name: tuple(shape) for name, shape in facts["inputs"].items()}
    if theirs != dict(dataset.task.inputs):
        return f"reads {theirs}; this study's data has {dict(dataset.task.inputs)}"
    if reason := _preprocessing_mismatch(facts, dataset):
        return reason
    classes = tuple(facts["class_names"])
    if not classes:
        return "has no class outputs; distillation needs a classifier"
    if classes != tuple(dataset.class_names):
        return (
            f"outputs {_describe(classes)}; this study's data has {_describe(dataset.class_names)}"
        )
    return None


def _preprocessing_mismatch(facts: Mapping[str, Any], dataset: Dataset) -> str | None:
    """Return the reason why inputs of the right shape differ in kind; None if they do not."""
    theirs = facts["preprocessing"] and Preprocessing.from_dict(facts["preprocessing"])
    ours = dataset.preprocessing
    if theirs is None or ours is None:
        return None if theirs is ours else "reads images, or this study does, but not both"
    if theirs.scales or theirs.dtype != ours.dtype:
        return (
            f"reads {theirs.dtype} from {theirs.low:g} to {theirs.high:g}; "
            f"this study's data is {ours.dtype} from {ours.low:g} to {ours.high:g}"
        )
    # Networks normalize by their own data, so ranges matter only where units differ.
    reason = None if theirs.takes_bytes else unit_mismatch(theirs, dataset.train.inputs["image"])
    return reason and f"reads other units than this study's data: {reason}"


def build_network(files: Mapping[str, bytes]) -> nn.Module:
    """Return the teacher's network with its weights, for the task that it was promoted on.

    Args:
        files: Content of `model.json` and `weights.safetensors` by name.

    Raises:
        ValueError: It cannot be built, or the weights do not match; also LookupError, TypeError
            or RuntimeError.
    """
    facts = json.loads(files[FACTS])
    task = Task(
        inputs={name: tuple(shape) for name, shape in facts["inputs"].items()},
        num_classes=len(facts["class_names"]),
        num_values=len(facts.get("value_names", ())),
    )
    built = Architecture.from_dict(facts["candidate"]["architecture"]).build(task)
    built.load_state_dict(safetensors.torch.load(files[WEIGHTS]))
    return built


class TeacherNetwork:
    """A promoted network, called on raw inputs."""

    def __init__(self, reference: TeacherRef, dataset: Dataset, device: torch.device) -> None:
        """Verify the files and build the network.

        Raises:
            BadCandidateError: A file is not the one that was staged, or the task differs.
        """
        read = storage_at(reference.path).read
        try:
            files = dict(verified_files(read, manifest.load(read, reference.sha256)))
        except ValueError as error:
            raise BadCandidateError(f"the teacher in {reference.path}: {error}") from error
        facts = json.loads(files[FACTS])
        if reason := task_mismatch(facts, dataset):
            raise BadCandidateError(f"the teacher {reason}")
        self.network = build_network(files).to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.normalisation = _normalisation(facts["normalisation"])

    def __call__(self, raw: Mapping[str, Tensor]) -> ModelOutput:
        """Return the teacher's output.

        Args:
            raw: Inputs by stream in the data's units, batch first.
        """
        with torch.no_grad():
            inputs = {name: self.normalisation.apply(name, values) for name, values in raw.items()}
            output: ModelOutput = self.network(inputs)
        return output


def _normalisation(kept: Mapping[str, Any]) -> Normalisation:
    return Normalisation(
        mean={name: tuple(each["mean"]) for name, each in kept.items()},
        std={name: tuple(each["deviation"]) for name, each in kept.items()},
    )


def _describe(names: Sequence[str]) -> str:
    """Return the number of classes and the first ten names."""
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"{len(names)} classes ({shown})" if names else "no classes"
