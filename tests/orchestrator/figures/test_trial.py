import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import pytest
from support.studies import a_trial

from orchestrator.figures.curves import learning_curve, loss_curves
from orchestrator.figures.trial import TrialFigures
from search_spaces.task import Task
from workers.measurement import Measurement

TASK = Task(inputs={"image": (1, 28, 28)}, num_classes=10)


def measurements(*each: dict[str, float]) -> list[Measurement]:
    return [
        Measurement(fidelity=epoch, metrics=metrics, elapsed_s=1.0)
        for epoch, metrics in enumerate(each, start=1)
    ]


def texts(svg: str | None) -> Sequence[str]:
    assert svg is not None
    return [
        (e.text or "").replace("\N{MULTIPLICATION SIGN}", "x")
        for e in ET.fromstring(svg).iter()
        if e.tag.endswith("}text")
    ]


def lines(svg: str | None) -> list[list[tuple[float, float]]]:
    assert svg is not None
    return [
        [tuple(map(float, point.split(","))) for point in e.attrib["points"].split()]  # type: ignore[misc]
        for e in ET.fromstring(svg).iter()
        if e.tag.endswith("}polyline")
    ]


def test_training_and_validation_share_a_panel_and_losses_follow() -> None:
    curve = learning_curve(
        measurements(
            {"val_accuracy": 0.2, "train_accuracy": 0.1, "val_loss": 2.0},
            {"val_accuracy": 0.6, "train_accuracy": 0.7, "val_loss": 1.0},
        ),
        ["val_accuracy"],
    )
    words = texts(curve)
    assert words.index("accuracy") < words.index("loss")
    assert words.count("validation") == 2
    assert words.count("training") == 1
    assert len(lines(curve)) == 3


def test_ascending_values_are_an_ascending_line() -> None:
    (line,) = lines(learning_curve(measurements({"f1": 0.1}, {"f1": 0.3}, {"f1": 0.9}), ["f1"]))
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)


def test_a_constant_metric_is_a_horizontal_line() -> None:
    (line,) = lines(learning_curve(measurements({"f1": 0.0}, {"f1": 0.0}), ["f1"]))
    assert line[0][1] == line[1][1]


@pytest.mark.parametrize(
    "measured", [[], measurements({"val_loss": 1.0}), measurements({"x": 1.0}, {"x": 2.0})]
)
def test_one_point_is_no_curve(measured: list[Measurement]) -> None:
    assert learning_curve(measured, ["val_accuracy", "parameters"]) is None


@pytest.mark.parametrize(
    "candidate",
    [
        {"schema": 1, "decisions": {"a": 1}},
        {"schema": 1, "architecture": {"streams": {"image": {}}, "fusion": {}, "head": {}}},
    ],
)
def test_an_unreadable_candidate_leaves_a_run_without_a_drawing(candidate: dict[str, Any]) -> None:
    figures = TrialFigures(lambda number: a_trial(number, candidate=candidate), TASK, [])
    assert figures.before_training(3, {}) == {}


def test_loss_terms_and_weights_have_a_panel_each_and_one_legend() -> None:
    measured = measurements(
        *(
            {"terms/mse": 1 / epoch, "terms/wave": 0.5, "weights/mse": 0.6, "weights/wave": 0.4}
            for epoch in (1, 2, 3)
        )
    )
    rendered = loss_curves(measured)
    assert rendered is not None
    assert len(lines(rendered)) == 4
    assert rendered.count(">mse<") == rendered.count(">wave<") == 1
    assert ">loss weights<" in rendered
    assert loss_curves(measurements({"val_loss": 1.0}, {"val_loss": 0.5})) is None
