"""Objectives that a search could meet by choosing its loss, or that no data serves, are refused."""

from typing import Any

import pytest

from orchestrator.aims import check_objectives
from orchestrator.config import StudyConfig
from orchestrator.problems import ProblemsError
from search_spaces.catalog import load
from search_spaces.domains import Const
from search_spaces.loss_weights import LossWeights
from search_spaces.space import SearchSpace
from search_spaces.task import Task

BOTH = Task(inputs={"image": (1, 8, 8)}, num_classes=10, num_values=1)


def config(*metrics: str, **more: Any) -> StudyConfig:
    objectives = [{"metric": metric, "direction": "minimize"} for metric in metrics]
    return StudyConfig.model_validate(
        {"name": "mine", "space": "hybrid", "objectives": objectives} | more
    )


@pytest.mark.parametrize("metric", ["val_loss", "train_loss"])
def test_a_loss_that_the_space_decides_is_no_objective(metric: str) -> None:
    wanted = rf"mine: objectives\[1\].metric: '{metric}' is measured by the main loss term, which "
    with pytest.raises(ProblemsError, match=wanted + ".* choosing another ruler"):
        check_objectives(config("val_accuracy", metric), load("hybrid"), BOTH)


def test_a_loss_that_the_space_leaves_alone_may_be_one() -> None:
    tiny = load("tiny")
    fixed = SearchSpace.of(
        name="fixed",
        version="1",
        architecture=tiny.candidates.fields["architecture"],  # type: ignore[attr-defined]
        losses=Const(LossWeights()),
    )
    check_objectives(config("val_loss", "val_accuracy", "val_mae"), fixed, BOTH)


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("val_accuracy", Task(inputs={"state": (3,)}, num_classes=0, num_values=2)),
        ("val_mae", Task(inputs={"state": (3,)}, num_classes=2)),
    ],
)
def test_a_metric_that_the_data_cannot_serve_is_no_objective(metric: str, task: Task) -> None:
    with pytest.raises(ProblemsError, match=f"'{metric}' is not measured: the data has no"):
        check_objectives(config(metric), load("hybrid"), task)


def test_what_a_users_own_training_measures_is_theirs_to_judge() -> None:
    own = config("val_loss", space="mine.py:space", train="mine.py:train")
    check_objectives(own, load("hybrid"), BOTH)
