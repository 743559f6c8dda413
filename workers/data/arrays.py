"""Arrays that users made themselves: one `.npz` file, or a folder of `.npy` files.

Examples are images or vectors of numbers; what they are labelled with are classes, numbers, or
both.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workers.data.dataset import DataError, RawData, Split
from workers.data.found import Found, find
from workers.data.npy import told
from workers.data.preprocessing import Preprocessing, prepare_arrays, prepare_vectors, value_range
from workers.data.spec import DataSpec
from workers.data.targets import read_targets

_MOST_CHANNELS = 4


def read(spec: DataSpec) -> RawData:
    """The arrays of a file or folder as bytes, the labels counted from 0.

    Raises:
        DataError: They are missing, or are not what training takes.
    """
    if spec.path is None:
        raise DataError("data.path: source 'npz' needs the .npz file, or a folder of .npy files")
    return load(find(Path(spec.path).expanduser()))


def load(found: Found) -> RawData:
    """The arrays found, prepared alike: brightness as the training part has it.

    Raises:
        DataError: They are not what training takes.
    """
    answers = read_targets(found)
    splits: dict[str, Split] = {}
    preprocessing: Preprocessing | None = None
    width = 0
    for part in sorted(found.inputs, key=lambda part: part != "train"):
        name = found.inputs[part]
        examples = found.read(name)
        with told(found.path, name):
            answers.check_count(part, len(examples))
            if part == "train" and examples.ndim == 2:
                width = _width(examples)
            elif part == "train":
                preprocessing = _preprocessing(examples)
            inputs: dict[str, NDArray[Any]] = (
                {"vector": prepare_vectors(examples, width)}
                if preprocessing is None
                else {"image": prepare_arrays(examples, preprocessing)}
            )
        splits[part] = answers.split(part, inputs)
    return RawData(
        pool=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        class_names=answers.class_names,
        value_names=answers.value_names,
        preprocessing=preprocessing,
    )


def _width(vectors: NDArray[Any]) -> int:
    """How many numbers each vector has.

    Raises:
        DataError: They are none to learn from.
    """
    if vectors.dtype.kind in "buif" and (vectors == vectors[:1]).all():
        raise DataError("every example is the same: nothing to learn from; save ones that differ")
    return int(vectors.shape[1])


def _preprocessing(values: NDArray[Any]) -> Preprocessing:
    """What the training part says about all: where its channels are, what is dark and bright.

    Raises:
        DataError: These are no images.
    """
    if values.dtype.kind not in "buif":
        raise DataError(f"is of type {values.dtype}; examples are numbers")
    shape = values.shape[1:]
    if len(shape) == 2:
        channels, height, width = 1, *shape
    elif len(shape) == 3 and shape[2] <= _MOST_CHANNELS < shape[1]:
        height, width, channels = shape
    elif len(shape) == 3 and shape[0] <= _MOST_CHANNELS < shape[2]:
        channels, height, width = shape
    else:
        raise DataError(
            f"has the shape {values.shape}; images are (N, height, width), or with 1 to "
            f"{_MOST_CHANNELS} channels last or second, vectors (N, numbers): reshape them"
        )
    low, high = value_range(values)
    return Preprocessing(channels=channels, height=height, width=width, low=low, high=high)
