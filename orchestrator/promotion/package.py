"""A trial's winner as a folder that MLflow loads: weights, candidate, code and a manifest.

Knows no registry and no ledger: it writes files.
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
"""Where the bundled sources lie in the model."""
USER_CODE = "archscout_user_code.py"
"""The user's own file among them, whatever it was called."""
FACTS = "artifacts/model/model.json"
"""Where a model says what it takes and answers."""
TRAINING_EXAMPLES = "artifacts/model/training_examples.safetensors"
"""Where a model keeps the digests of the examples that it was trained on."""
_PACKAGES = ("mlflow", "torch", "numpy", "safetensors", "pillow")
_EXAMPLES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into a model."""

    checkpoint: Checkpoint
    """Of the last epoch of the full budget, its bytes proved."""
    candidate: Mapping[str, Any]
    """The candidate's JSON form."""
    precision: str
    """The numbers in which the trial was judged: `float32` or `bfloat16`."""
    dataset: Dataset
    """What it was judged on."""
    preprocessing: Preprocessing | None
    """How a file becomes an input; None where examples are vectors."""
    user_code: UserCode | None
    """The user's own file and what it imports beside it, if the candidate is built of their
    blocks."""
    origin: Mapping[str, Any]
    """Study, trial and digests, for people who find the file."""


def build(folder: Path, contents: Contents) -> str:
    """Write the model into a new folder.

    Returns:
        SHA-256 of its manifest.
    """
    staged = folder.with_name(f"{folder.name}-contents") / "model"
    _write_code(staged / "code", contents.user_code)
    (staged / "weights.safetensors").write_bytes(safetensors.torch.save(_weights(contents)))
    facts = json.dumps(_facts(contents), indent=1, sort_keys=True, allow_nan=False)
    (staged / Path(FACTS).name).write_text(facts)
    trained = np.sort(example_digests(contents.dataset.train)).view(np.int64)
    safetensors.numpy.save_file({"digests": trained}, staged / Path(TRAINING_EXAMPLES).name)
    with _quiet():
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(SHIM),
            artifacts={"model": str(staged)},
            signature=_signature(contents),
            input_example=examples(contents.dataset.validation, contents.preprocessing)[:_EXAMPLES],
            pip_requirements=[f"{name}=={_release(name)}" for name in _PACKAGES],
        )
    for leftover in folder.rglob("__pycache__"):
        shutil.rmtree(leftover)
    shutil.rmtree(staged.parent)
    return manifest.write(folder)


def examples(split: Split, prepared: Preprocessing | None) -> NDArray[Any]:
    """The examples of a part as the model's signature takes them."""
    (inputs,) = split.inputs.values()
    return inputs if prepared is None else to_raw_arrays(inputs, prepared)


def to_raw_arrays(pixels: NDArray[Any], prepared: Preprocessing) -> NDArray[Any]:
    """Prepared images as their arrays were before: what the model's signature takes."""
    values: NDArray[Any] = pixels[:, 0] if prepared.channels == 1 else np.moveaxis(pixels, 1, -1)
    if not prepared.scales:
        return np.ascontiguousarray(values)
    # One step of the 255 lies far above a rounding error: preparing them again gives these bytes.
    return prepared.low + values * ((prepared.high - prepared.low) / 255)


def expected_code(user_code: UserCode | None) -> dict[str, str]:
    """Digests of all code in a model that this installation makes, by its place in the model."""
    sources = _sources(user_code)
    return {
        **{f"{CODE}/{name}": manifest.digest(source) for name, source in sources.items()},
        SHIM.name: manifest.digest(SHIM.read_bytes()),
    }


def has_users_blocks(architecture: Architecture) -> bool:
    """Whether an architecture is built of blocks that a user registered."""
    ours = f"{search_spaces.__name__}."
    return any(not type(part).__module__.startswith(ours) for part in architecture.parts())


def _weights(contents: Contents) -> dict[str, Tensor]:
    """The network's own tensors, without those that only training needs."""
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
    """The sources that travel with a model, by their place below its code."""
    root = Path(str(search_spaces.__file__)).parent
    package = {
        f"search_spaces/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*.py"))
    }
    return {
        **({} if user_code is None else _users_sources(user_code)),
        **package,
        "archscout_preprocessing.py": Path(str(preprocessing.__file__)).read_bytes(),
    }


def _users_sources(user_code: UserCode) -> dict[str, bytes]:
    """The user's file under a name of its own, its neighbours under theirs."""
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
    answers: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, "label")] if names else []
    answers += [ColSpec(DataType.double, f"probability_{name}") for name in names]
    answers += [ColSpec(DataType.double, f"value_{name}") for name in contents.dataset.value_names]
    return ModelSignature(inputs=Schema([_taken(contents)]), outputs=Schema(answers))


def _taken(contents: Contents) -> TensorSpec:
    """What goes in."""
    prepared = contents.preprocessing
    if prepared is None:
        (shape,) = contents.dataset.task.inputs.values()
        return TensorSpec(np.dtype(np.float32), (-1, *shape))
    channels = () if prepared.channels == 1 else (prepared.channels,)
    return TensorSpec(np.dtype(prepared.dtype), (-1, prepared.height, prepared.width, *channels))


def _release(package: str) -> str:
    """The version as an index has it, without the mark of a local build (`+cpu`)."""
    return re.sub(r"\+.*", "", version(package))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps MLflow from advising us about type hints, which its serving would then enforce."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
