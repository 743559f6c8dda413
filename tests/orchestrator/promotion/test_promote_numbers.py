"""Regression targets, with classes or not, go through data, search, promotion, prediction."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.promotions import a_promoter

from orchestrator.cli import main
from orchestrator.errors import PromotionRefusedError

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]
Answer = Callable[..., tuple[int, Any, str]]
RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(300, 4)).astype("f4")
SUMS = 5 + VECTORS.sum(axis=1)
IMAGES = RANDOM.integers(0, 60, (200, 8, 8), dtype=np.uint8)
BRIGHT = np.arange(200) % 2
IMAGES[BRIGHT == 1] += 150
STUDY = """
name: {name}
space: {space}
data: {{source: npz, path: {path}}}
objectives: {objectives}
budget: {{unit: epoch, minimum: 1, maximum: {epochs}, reduction_factor: 3}}
stop: {{trials: {trials}}}
sampler: {{name: random}}
pruner: {{name: none}}
engine: {{name: in_process}}
"""
SMALLER = "{metric: %s, direction: minimize}"
LARGER = "{metric: val_accuracy, direction: maximize}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of numbers alone, and one of both."""
    folder = tmp_path_factory.mktemp("numbers")
    both = {"y": np.array(["dark", "bright"])[BRIGHT], "values": IMAGES.mean(axis=(1, 2)) / 7}
    np.savez(folder / "sums.npz", x=VECTORS, y=SUMS)
    np.savez(folder / "both.npz", x=IMAGES, **both, value_names=["lightness"])
    mae = SMALLER % "val_mae"
    for name, space, objectives, epochs, trials in (
        ("sums", "vector", f"[{mae}]", 9, 1),
        ("both", "tiny", f"[{LARGER}, {mae}]", 3, 2),
    ):
        study = folder / f"{name}.yaml"
        study.write_text(
            STUDY.format(
                name=name, space=space, path=folder / f"{name}.npz", objectives=objectives,
                epochs=epochs, trials=trials,
            )
        )  # fmt: skip
        assert main(["--home", str(folder / "home"), "search", str(study), "--quiet"]) == 0
    return folder / "home"


def test_regression_models_are_promoted_by_their_error_and_predict(
    home: Path, answer: Answer, tmp_path: Path
) -> None:
    code, said, _ = answer("promote", "sums", "--model", "sums", at=home)
    assert code == 0
    assert "val_accuracy" not in said
    assert 0 < said["test_mae"] < 0.8
    np.save(tmp_path / "some.npy", VECTORS[:50])
    code, said, _ = answer("predict", "sums@champion", str(tmp_path / "some.npy"), at=home)
    assert code == 0
    predicted = [row["values"]["0"] for row in said["predictions"]]
    assert np.abs(np.array(predicted) - SUMS[:50]).mean() < 0.8
    assert "label" not in said["predictions"][0]
    np.save(tmp_path / "one.npy", VECTORS[0])
    code, one, _ = answer("predict", "sums@champion", str(tmp_path / "one.npy"), at=home)
    assert one["predictions"][0]["values"]["0"] == pytest.approx(predicted[0], abs=1e-5)


def test_vectors_of_another_length_and_images_are_refused(
    home: Path, answer: Answer, tmp_path: Path
) -> None:
    assert answer("promote", "sums", "--model", "refusing", at=home)[0] == 0
    np.save(tmp_path / "long.npy", VECTORS[:, :3])
    _, said, _ = answer("predict", "refusing@champion", str(tmp_path / "long.npy"), at=home)
    assert "shape (3,); the network reads vectors of 4" in said["errors"][0]
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    code, said, _ = answer("predict", "refusing@champion", str(tmp_path / "a.png"), at=home)
    assert code == 2
    assert "the model takes vectors of 4 numbers, not images" in said["errors"][0]


def test_classes_and_targets_are_verified_and_predicted(
    home: Path, answer: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = answer("promote", "both", "--model", "both", "--trial", "0", at=home)
    assert code == 0
    assert {"val_accuracy", "val_mae", "test_accuracy", "test_mae"} <= {*said}
    np.save(tmp_path / "some.npy", IMAGES[:9])
    words = ["predict", "both@champion", str(tmp_path / "some.npy")]
    assert main(["--home", str(home), *words, "--output", "csv"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "file,label,probability,probability_bright,probability_dark,value_lightness"
    assert len(lines) == 9
    assert main(["--home", str(home), *words]) == 0
    head = ["file", "label", "probability", "second", "lightness"]
    assert capsys.readouterr().out.split()[:5] == head


def test_a_model_with_a_larger_error_than_recorded_is_refused(home: Path) -> None:
    honest = a_promoter(home, "erring", study="sums")
    recorded = honest.winner.scores["mae"]
    boasting = replace(honest.winner, scores={"mae": recorded * 0.9})
    with pytest.raises(
        PromotionRefusedError, match=r"mean absolute error .* differ by more than the tol"
    ):
        replace(honest, winner=boasting).promote()


def test_several_best_trials_need_an_explicit_choice(home: Path, answer: Answer) -> None:
    _, said, _ = answer("leaderboard", "both", at=home)
    front = [row["trial"] for row in said["trials"] if row["on_front"]]
    code, said, _ = answer("promote", "both", "--model", "unasked", at=home)
    if len(front) > 1:
        assert code == 2
        assert "--prefer val_accuracy=0.5,val_mae=0.5; then promote" in said["errors"][0]
    else:
        assert code == 0
    code, said, _ = answer("leaderboard", "both", "--prefer", "val_mae=1", at=home)
    assert (code, said["preferred"]) == (0, {"val_accuracy": 0.0, "val_mae": 1.0})
    errors = [row["values"]["val_mae"] for row in said["trials"] if row["on_front"]]
    assert errors == sorted(errors)
    assert json.dumps(said["trials"][0]["distance"]) == "0.0"
    assert answer("leaderboard", "both", "--prefer", "val_mea=1", at=home)[0] == 2
