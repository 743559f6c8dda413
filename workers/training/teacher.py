"""A promoted network that a candidate may learn from.

Read as plain data, weights and architecture: the code that travels with a model is not run.
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


def unfit(facts: Mapping[str, Any], dataset: Dataset) -> str | None:
    """Why a teacher of these facts cannot teach on this data; None if it can."""
    theirs = {name: tuple(shape) for name, shape in facts["inputs"].items()}
    if theirs != dict(dataset.task.inputs):
        return f"reads {theirs}; this study's data has {dict(dataset.task.inputs)}"
    if reason := _unlike(facts, dataset):
        return reason
    classes = tuple(facts["class_names"])
    if not classes:
        return "tells no classes, which distilling needs"
    if classes != tuple(dataset.class_names):
        return f"tells {_listed(classes)}; this study's data has {_listed(dataset.class_names)}"
    return None


def _unlike(facts: Mapping[str, Any], dataset: Dataset) -> str | None:
    """Why inputs of one shape are of another kind to the teacher; None if they are not."""
    theirs = facts["preprocessing"] and Preprocessing.from_dict(facts["preprocessing"])
    ours = dataset.preprocessing
    if theirs is None or ours is None:
        return None if theirs is ours else "reads images, or this study does, but not both"
    if theirs.scales or theirs.dtype != ours.dtype:
        return (
            f"reads {theirs.dtype} made of {theirs.low:g} to {theirs.high:g}; "
            f"this study's data is {ours.dtype} of {ours.low:g} to {ours.high:g}"
        )
    # Networks normalise by their own data, so ranges matter only where units are others.
    reason = None if theirs.takes_bytes else unit_mismatch(theirs, dataset.train.inputs["image"])
    return reason and f"reads other units than this study's data: {reason}"


def network(files: Mapping[str, bytes]) -> nn.Module:
    """The teacher's network with its weights, built for the task that it was promoted on.

    Raises:
        ValueError: It cannot be built, or the weights are not its own; also LookupError, TypeError
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


class Teacher:
    """Answers as the promoted network does, for the same examples."""

    def __init__(self, reference: TeacherRef, dataset: Dataset, device: torch.device) -> None:
        """Prove the files and build the network.

        Raises:
            BadCandidateError: A file is not the one that was staged, or the task differs.
        """
        read = storage_at(reference.path).read
        try:
            files = dict(verified_files(read, manifest.load(read, reference.sha256)))
        except ValueError as error:
            raise BadCandidateError(f"the teacher in {reference.path}: {error}") from error
        facts = json.loads(files[FACTS])
        if reason := unfit(facts, dataset):
            raise BadCandidateError(f"the teacher {reason}")
        self.network = network(files).to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
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


def _listed(names: Sequence[str]) -> str:
    """Classes in a line that people can compare."""
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"{len(names)} classes ({shown})" if names else "no classes"
