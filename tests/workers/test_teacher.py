"""A teacher is taken where it reads this study's examples as they are, and else refused."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workers.data import Preprocessing
from workers.training.teacher import task_mismatch

BYTES = Preprocessing(channels=1, height=8, width=8)
FLOATS = replace(BYTES, dtype="float32", low=-3.0, high=4.0)
EARLIER = replace(BYTES, low=-3.0, high=4.0)
"""Floats in bytes, as releases before had them."""


def reason(teacher: Preprocessing | None, study: Preprocessing | None) -> str | None:
    inputs = {"image": (1, 8, 8)} if study else {"vector": (4,)}
    facts: dict[str, Any] = {
        "inputs": {name: list(shape) for name, shape in inputs.items()},
        "preprocessing": teacher and teacher.to_dict(),
        "class_names": ["a", "b"],
    }
    images = np.linspace(study.low, study.high, 640).reshape(10, 1, 8, 8) if study else None
    dataset: Any = SimpleNamespace(
        preprocessing=study,
        class_names=("a", "b"),
        task=SimpleNamespace(inputs=inputs),
        train=SimpleNamespace(inputs={"image": images}),
    )
    return task_mismatch(facts, dataset)


@pytest.mark.parametrize(
    ("teacher", "study"),
    [(BYTES, BYTES), (None, None), (FLOATS, FLOATS), (FLOATS, replace(FLOATS, low=-9, high=3))],
)
def test_a_teacher_of_the_same_kind_fits_whatever_the_range_of_its_data(
    teacher: Preprocessing | None, study: Preprocessing | None
) -> None:
    assert reason(teacher, study) is None


def test_a_teacher_of_a_release_without_floats_still_fits_bytes() -> None:
    facts = BYTES.to_dict()
    del facts["dtype"]
    assert reason(Preprocessing.from_dict(facts), BYTES) is None


@pytest.mark.parametrize(
    ("teacher", "study", "words"),
    [
        (BYTES, FLOATS, "float32 from -3 to 4"),
        (FLOATS, BYTES, "uint8 from 0 to 255"),
        (EARLIER, FLOATS, "uint8 from -3 to 4"),
        (EARLIER, BYTES, "uint8 from -3 to 4"),
        (FLOATS, replace(FLOATS, low=900, high=1100), "scale them alike"),
        (replace(FLOATS, low=0, high=1), replace(FLOATS, low=0, high=4095), "divide them"),
        (BYTES, None, "not both"),
    ],
)
def test_a_teacher_of_another_kind_is_refused(
    teacher: Preprocessing, study: Preprocessing | None, words: str
) -> None:
    assert words in str(reason(teacher, study))
