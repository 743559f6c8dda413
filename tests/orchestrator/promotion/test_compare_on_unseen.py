"""Comparison on newer data: its examples, their preprocessing, and the metrics."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import PromotionRefusedError
from orchestrator.promotion import package
from orchestrator.promotion.comparison import Comparison, compare_on_unseen, recorded_metrics
from orchestrator.promotion.registry import Champion
from workers.data import Dataset, DataSpec, SplitSpec, load
from workers.data.identity import example_digests

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
RANDOM = np.random.default_rng(0)
ACCURACY = {"metric": "val_accuracy", "direction": "maximize"}
SIZE = {"metric": "parameters", "direction": "minimize"}
Predict = Callable[[Any], Mapping[str, list[Any]]]


class Model:
    """A model with given predictions and facts."""

    def __init__(self, dataset: Dataset, predict: Predict, **facts: Any) -> None:
        prepared = dataset.preprocessing
        said = {
            "inputs": {name: list(shape) for name, shape in dataset.task.inputs.items()},
            "class_names": list(dataset.class_names),
            "value_names": list(dataset.value_names),
            "preprocessing": prepared and prepared.to_dict(),
        } | facts
        trained = np.sort(example_digests(dataset.train)).view(np.int64)
        self.calls: list[Any] = []
        self._predict = predict
        self._files = {
            package.FACTS: json.dumps(said).encode(),
            package.TRAINING_EXAMPLES: safetensors.numpy.save({"digests": trained}),
        }

    def predict(self, examples: Any) -> Mapping[str, list[Any]]:
        self.calls.append(examples)
        return self._predict(examples)

    def file(self, name: str) -> bytes | None:
        return self._files.get(name)


def predicting(label: str) -> Predict:
    return lambda examples: {"label": [label] * len(examples)}


def a_winner(spec: DataSpec, *objectives: Mapping[str, str]) -> Any:
    config = StudyConfig.model_validate(
        {"name": "s", "space": "tiny", "stop": {"trials": 1}, "data": asdict(spec)}
        | {"objectives": [*objectives] or [ACCURACY]}
    )
    dataset = load(spec)
    return SimpleNamespace(
        config=config,
        dataset=dataset,
        preprocessing=dataset.preprocessing,
        scores={"accuracy": 0.5} if dataset.class_names else {"mae": 1.0},
        trial=SimpleNamespace(measurements=(), cost={"parameters": 100.0}),
        measurement=SimpleNamespace(metrics={}),
    )


def npz(folder: Path, name: str, images: Any, labels: Any) -> DataSpec:
    np.savez(folder / f"{name}.npz", x=images, y=labels)
    return DataSpec(source="npz", path=str(folder / f"{name}.npz"), split=SplitSpec(validation=0.5))


def photos(folder: Path, side: int, *seeds: int) -> DataSpec:
    for seed in seeds:
        chance = np.random.default_rng(seed)
        for label in ("a", "b"):
            (folder / label).mkdir(parents=True, exist_ok=True)
            for index in range(50):
                pixels = chance.integers(0, 255, (side, side), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / label / f"{seed}-{index}.png")
    return DataSpec(source="folder", path=str(folder), split=SplitSpec(validation=0.5))


def compared(
    winner: Any, champion: Dataset, ours: str = "0", theirs: str = "0", **tags: str
) -> tuple[Comparison, Model]:
    model = Model(champion, predicting(theirs))
    version = Champion(version=1, tags={f"archscout.{name}": tag for name, tag in tags.items()})
    mine = Model(winner.dataset, predicting(ours))
    return compare_on_unseen(winner, mine, version, model), model


IMAGES = RANDOM.integers(0, 255, (300, 8, 8), dtype=np.uint8)
LABELS = np.arange(300) % 2


@pytest.fixture
def older(tmp_path: Path) -> Dataset:
    return load(npz(tmp_path, "older", IMAGES[:100], LABELS[:100]))


def test_training_examples_of_both_are_left_out(tmp_path: Path, older: Dataset) -> None:
    doubled = IMAGES[100:].copy()
    doubled[:100] = doubled[100:]  # half of them are in both splits of the challenger
    winner = a_winner(npz(tmp_path, "newer", [*IMAGES[:100], *doubled], LABELS))
    _, model = compared(winner, older)
    (asked,) = model.calls
    seen = {image.tobytes() for image in asked}
    for dataset in (older, winner.dataset):
        assert not seen & {image.tobytes() for image in dataset.train.inputs["image"]}
    assert 30 < len(asked) < len(winner.dataset.validation)


def test_too_few_unseen_examples_are_refused_with_their_count(
    tmp_path: Path, older: Dataset
) -> None:
    winner = a_winner(npz(tmp_path, "newer", IMAGES[:100], LABELS[:100]))
    with pytest.raises(PromotionRefusedError, match=r"all but 0 of the \d+ .* 30 are needed"):
        compared(winner, replace(older, train=winner.dataset.validation))


@pytest.mark.parametrize(("theirs", "stays"), [("90", True), ("110", False)])
def test_cost_objectives_are_compared_as_recorded(
    tmp_path: Path, older: Dataset, theirs: str, stays: bool
) -> None:
    winner = a_winner(npz(tmp_path, "newer", IMAGES, LABELS), ACCURACY, SIZE)
    found, _ = compared(winner, older, parameters=theirs)
    assert found.champion_wins is stays
    alone, _ = compared(winner, older)  # an older release did not record the champion's
    assert [each.metric for each in alone.objectives] == ["val_accuracy"]


def test_unscaled_arrays_of_another_range_are_compared(tmp_path: Path) -> None:
    floats = IMAGES.astype("f4") / 77 - 1
    older = load(npz(tmp_path, "older", floats[:100], LABELS[:100]))
    floats[200] *= 1.5
    winner = a_winner(npz(tmp_path, "newer", floats, LABELS))
    assert winner.preprocessing != older.preprocessing
    found, _ = compared(winner, older)
    assert not found.champion_wins


def test_images_of_another_median_size_are_preprocessed_for_the_champion(
    tmp_path: Path,
) -> None:
    older = load(photos(tmp_path, 8, 0))
    winner = a_winner(photos(tmp_path, 12, 1, 2))
    assert winner.preprocessing.height == 12
    _, model = compared(winner, older, "a", "a")
    (asked,) = model.calls
    assert asked.shape[1:] == (8, 8)
    seen = {image.tobytes() for image in older.train.inputs["image"]}
    assert not seen & {image.tobytes() for image in asked}
    assert 30 < len(asked) < len(winner.dataset.validation)


def test_a_champion_of_arrays_is_not_compared_on_images(tmp_path: Path) -> None:
    winner = a_winner(photos(tmp_path / "photos", 8, 1))
    spectra = RANDOM.normal(size=(300, 8, 8)).astype("f4")
    older = load(npz(tmp_path, "older", spectra, LABELS))
    with pytest.raises(PromotionRefusedError, match="prepared from the files in another way"):
        compared(winner, replace(older, class_names=("a", "b")))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"class_names": ["0", "1", "2"]}, "knows the class '2', which this one does not"),
        ({"class_names": []}, "only one of the two is a classifier"),
        ({"value_names": ["age"]}, "predicts 'age', which this one does not"),
        ({"inputs": {"vector": [3]}}, "it takes"),
        ({"preprocessing": None}, "prepared from the files in another way"),
    ],
)
def test_a_champion_with_another_task_is_not_compared(
    tmp_path: Path, older: Dataset, facts: dict[str, Any], reason: str
) -> None:
    winner = a_winner(npz(tmp_path, "newer", IMAGES, LABELS))
    model = Model(older, predicting("0"), **facts)
    with pytest.raises(PromotionRefusedError, match=reason):
        compare_on_unseen(winner, model, Champion(version=1, tags={}), model)


def test_classes_unknown_to_the_champion_count_as_errors(tmp_path: Path, older: Dataset) -> None:
    winner = a_winner(npz(tmp_path, "newer", IMAGES, np.arange(300) % 3))
    found, _ = compared(winner, older)
    assert found.ours == found.theirs


def test_only_possible_objectives_become_tags() -> None:
    measured = {"val_mae/a//b": 1.0, "val_mae/" + "x" * 300: 1.0, "val_rmse": 2.0, "val_loss": 3.0}
    winner: Any = SimpleNamespace(
        trial=SimpleNamespace(cost={"flops": 4}),
        measurement=SimpleNamespace(metrics=measured),
        scores={"rmse": 2.0},
    )
    assert recorded_metrics(winner) == {"val_rmse": 2.0, "val_loss": 3.0, "flops": 4.0}
