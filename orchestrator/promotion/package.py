"""MLflow model of a trial: a folder with weights, candidate, code and a manifest.

Only writes files; knows neither registry nor ledger.
"""

import json
import logging
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import safetensors.numpy
import safetensors.torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from numpy.typing import NDArray
from torch import Tensor

import search_spaces
from search_spaces.architecture import Architecture
from search_spaces.user_code import UserCode
from workers import manifest
from workers.checkpoint import Checkpoint
from workers.data import Dataset, Preprocessing, Split, preprocessing
from workers.data.identity import example_digests

SHIM = Path(__file__).with_name("archscout_model.py")
SCHEMA = 1
CODE = "artifacts/model/code"
"""Folder of the bundled sources in the model."""
USER_CODE = "archscout_user_code.py"
"""Name of the user's own file among them."""
FACTS = "artifacts/model/model.json"
"""File of the model's inputs, outputs and candidate."""
TRAINING_EXAMPLES = "artifacts/model/training_examples.safetensors"
"""File of the digests of the model's training examples."""
_PACKAGES = ("mlflow", "torch", "numpy", "safetensors", "pillow")
_EXAMPLES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Contents of a model."""

    checkpoint: Checkpoint
    """Verified checkpoint of the last epoch of the full budget."""
    candidate: Mapping[str, Any]
    """The candidate's JSON form."""
    precision: str
    """Precision of the trial's evaluation: `float32` or `bfloat16`."""
    dataset: Dataset
    """The data set that it was trained and evaluated on."""
    preprocessing: Preprocessing | None
    """Preprocessing of files to inputs; None for vectors."""
    user_code: UserCode | None
    """The user's own file and its local imports, if the candidate uses their blocks."""
    origin: Mapping[str, Any]
    """Study, trial and digests, for information."""


def build(folder: Path, contents: Contents) -> str:
    """Write the model to a new folder.

    Returns:
        SHA-256 of its manifest.
    """
    staged = folder.with_name(f"{folder.name}-contents") / "model"
    _write_code(staged / "code", contents.user_code)
    (staged / "weights.safetensors").write_bytes(safetensors.torch.save(_weights(contents)))
    facts = json.dumps(_facts(contents), indent=1, sort_keys=True, allow_nan=False)
    (staged / Path(FACTS).name).write_text(facts)
    training_digests = np.sort(example_digests(contents.dataset.train)).view(np.int64)
    safetensors.numpy.save_file(
        {"digests": training_digests}, staged / Path(TRAINING_EXAMPLES).name
    )
    with _quiet():
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(SHIM),
            artifacts={"model": str(staged)},
            signature=_signature(contents),
            input_example=examples(contents.dataset.validation, contents.preprocessing)[:_EXAMPLES],
            pip_requirements=[f"{name}=={_public_version(name)}" for name in _PACKAGES],
        )
    for leftover in folder.rglob("__pycache__"):
        shutil.rmtree(leftover)
    shutil.rmtree(staged.parent)
    return manifest.write(folder)


def examples(split: Split, prepared: Preprocessing | None) -> NDArray[Any]:
    """Return the examples of a split in the form of the model's signature."""
    (inputs,) = split.inputs.values()
    return inputs if prepared is None else to_raw_arrays(inputs, prepared)


def to_raw_arrays(pixels: NDArray[Any], prepared: Preprocessing) -> NDArray[Any]:
    """Return preprocessed images as raw arrays, in the form of the model's signature."""
    values: NDArray[Any] = pixels[:, 0] if prepared.channels == 1 else np.moveaxis(pixels, 1, -1)
    if not prepared.scales:
        return np.ascontiguousarray(values)
    # One of 255 steps is far above rounding errors: preprocessing restores the same bytes.
    return prepared.low + values * ((prepared.high - prepared.low) / 255)


def expected_code(user_code: UserCode | None) -> dict[str, str]:
    """Return digests of all code in a model of this installation, by path in the model."""
    sources = _sources(user_code)
    return {
        **{f"{CODE}/{name}": manifest.digest(source) for name, source in sources.items()},
        SHIM.name: manifest.digest(SHIM.read_bytes()),
    }


def has_users_blocks(architecture: Architecture) -> bool:
    """Return whether an architecture uses blocks that a user registered."""
    ours = f"{search_spaces.__name__}."
    return any(not type(part).__module__.startswith(ours) for part in architecture.parts())


def _weights(contents: Contents) -> dict[str, Tensor]:
    """Return the network's own tensors, without those used only in training."""
    task = contents.dataset.task
    network = Architecture.from_dict(contents.candidate["architecture"]).build(task)
    tensors = contents.checkpoint.tensors
    return {name: tensors[f"network.{name}"] for name in network.state_dict()}


def _facts(contents: Contents) -> dict[str, Any]:
    dataset = contents.dataset
    return {
        "schema": SCHEMA,
        "candidate": dict(contents.candidate),
        "inputs": {name: list(shape) for name, shape in dataset.task.inputs.items()},
        "class_names": list(dataset.class_names),
        "value_names": list(dataset.value_names),
        "preprocessing": contents.preprocessing and contents.preprocessing.to_dict(),
        "normalisation": contents.checkpoint.state["normalisation"],
        "precision": contents.precision,
        "user_code": contents.user_code and contents.user_code.digest,
        "origin": dict(contents.origin),
    }


def _sources(user_code: UserCode | None) -> dict[str, bytes]:
    """Return the sources bundled with a model, by path below its code folder."""
    root = Path(str(search_spaces.__file__)).parent
    package = {
        f"search_spaces/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*.py"))
    }
    return {
        **({} if user_code is None else _user_sources(user_code)),
        **package,
        "archscout_preprocessing.py": Path(str(preprocessing.__file__)).read_bytes(),
    }


def _user_sources(user_code: UserCode) -> dict[str, bytes]:
    """Return the user's file under a fixed name, and its imports under their own."""
    ((_, named),) = user_code.named
    root = Path(named).parent
    return {
        USER_CODE if path == named else Path(path).relative_to(root).as_posix(): source
        for path, source in user_code.files.items()
    }


def _write_code(folder: Path, user_code: UserCode | None) -> None:
    for name, source in _sources(user_code).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source)


def _signature(contents: Contents) -> ModelSignature:
    names = contents.dataset.class_names
    outputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, "label")] if names else []
    outputs += [ColSpec(DataType.double, f"probability_{name}") for name in names]
    outputs += [ColSpec(DataType.double, f"value_{name}") for name in contents.dataset.value_names]
    return ModelSignature(inputs=Schema([_input_spec(contents)]), outputs=Schema(outputs))


def _input_spec(contents: Contents) -> TensorSpec:
    """Return the model's input."""
    prepared = contents.preprocessing
    if prepared is None:
        (shape,) = contents.dataset.task.inputs.values()
        return TensorSpec(np.dtype(np.float32), (-1, *shape))
    channels = () if prepared.channels == 1 else (prepared.channels,)
    return TensorSpec(np.dtype(prepared.dtype), (-1, prepared.height, prepared.width, *channels))


def _public_version(package: str) -> str:
    """Return the published version, without the label of a local build (`+cpu`)."""
    return re.sub(r"\+.*", "", version(package))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MLflow's advice on type hints, which its serving would then enforce."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
