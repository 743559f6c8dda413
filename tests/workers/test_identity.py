"""The test split is recognized by its examples, whatever split, order or limit was asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.data import DataSpec, Split, load
from workers.data.identity import example_digests
from workers.data.identity import test_split_identity as part_identity

chance = np.random.default_rng(0)
IMAGES = chance.integers(0, 255, (400, 8, 8), dtype=np.uint8)
LABELS = np.arange(400) % 3


@pytest.fixture(scope="module")
def with_own_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "own_test.npz"
    np.savez(path, x_train=IMAGES[:300], y_train=LABELS[:300], x_test=IMAGES[300:],
             y_test=LABELS[300:])  # fmt: skip
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"split": {"seed": 1}},
        {"limit": 299},
        {"split": {"validation": 0.21}},
        {"split": {"seed": 7}},
    ],
)
def test_a_test_part_of_the_sources_own_is_one_and_the_same(
    with_own_test: Path, changed: dict[str, Any]
) -> None:
    spec = {"source": "npz", "path": str(with_own_test)}
    first, second = load(DataSpec(**spec)), load(DataSpec(**{**spec, **changed}))
    assert first.digest != second.digest
    same = part_identity(first)["test_digest"]
    assert part_identity(second)["test_digest"] == same


@pytest.mark.parametrize("changed", [{"seed": 1}, {"test": 0.2}, {"validation": 0.3}])
def test_the_same_examples_split_otherwise_are_recognised(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    np.savez(tmp_path / "all.npz", x=IMAGES, y=LABELS)
    spec = {"source": "npz", "path": str(tmp_path / "all.npz")}
    first, second = load(DataSpec(**spec)), load(DataSpec(**spec, split=changed))
    known = part_identity(first)
    assert part_identity(second)["examples_digest"] == known["examples_digest"]
    np.savez(tmp_path / "all.npz", x=IMAGES[1:], y=LABELS[1:])
    other = part_identity(load(DataSpec(**spec)))
    assert other["examples_digest"] != known["examples_digest"]


@given(st.permutations(range(12)))
def test_digests_follow_the_examples_in_any_order(order: list[int]) -> None:
    targets = np.zeros(12, dtype=np.int64)
    split = Split(inputs={"image": IMAGES[:12, None]}, targets=targets)
    moved = split.take(np.array(order))
    assert (example_digests(moved) == example_digests(split)[order]).all()
    assert len(set(example_digests(split).tolist())) == 12
