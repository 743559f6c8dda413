"""Objectives that a search could meet by choosing its loss, or that no data serves, are refused."""

from typing import Any

import pytest

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ProblemsError
from orchestrator.study.objective_checks import check_objectives
from search_spaces.catalog import NAMES, example, load
from search_spaces.catalog.task_fit import fit_to_task
from search_spaces.domains import Const, Domain, OneOf, Record
from search_spaces.loss_terms import LossTerm, LossWeights
from search_spaces.losses import loss_domain
from search_spaces.recipe import recipe_domain
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
    with pytest.raises(ProblemsError, match=wanted + ".* by changing the loss"):
        check_objectives(config("val_accuracy", metric), load("hybrid"), BOTH)


def space_of(losses: Domain[LossWeights], **parts: Any) -> SearchSpace:
    architecture = load("tiny").candidates.fields["architecture"]  # type: ignore[attr-defined]
    return SearchSpace.of(
        name="own", version="1", architecture=architecture, losses=losses, **parts
    )


def test_a_loss_that_the_space_leaves_alone_may_be_one() -> None:
    check_objectives(
        config("val_loss", "val_accuracy", "val_mae"), space_of(Const(LossWeights())), BOTH
    )


def auxiliary(weight: float) -> Domain[LossWeights]:
    terms = {"cross_entropy": LossTerm(), "auxiliary": LossTerm(weight=weight)}
    return Const(LossWeights(terms=terms))


def one_of_many() -> Domain[LossWeights]:
    many = {f"w{k}": auxiliary(0.01 * (k + 1)) for k in range(200)}
    return OneOf({**many, "focal": Const(LossWeights(main="focal", terms={"focal": LossTerm()}))})


def far_within() -> Domain[LossWeights]:
    nested: Domain[LossWeights] = Const(LossWeights(main="focal", terms={"focal": LossTerm()}))
    for k in range(12):
        nested = OneOf({"mild": auxiliary(0.1 * (k + 1)), "other": nested})
    return nested


@pytest.mark.parametrize("losses", [one_of_many(), far_within()])
def test_a_main_term_that_chance_hardly_draws_is_found(losses: Domain[LossWeights]) -> None:
    with pytest.raises(ProblemsError, match="cross_entropy or focal"):
        check_objectives(config("val_loss"), space_of(losses), BOTH)


@pytest.mark.parametrize("metric", ["weights/auxiliary", "terms/auxiliary", "val_total"])
def test_what_follows_from_the_weights_is_no_objective(metric: str) -> None:
    wanted = rf"objectives\[0\].metric: '{metric}' depends on the loss weights"
    with pytest.raises(ProblemsError, match=wanted) as refused:
        check_objectives(config(metric), load("tiny"), BOTH)
    assert len(refused.value.problems) == 1


def test_training_examples_that_the_space_chooses_are_no_aim() -> None:
    losses = Const(LossWeights())
    chosen = space_of(losses, recipe=recipe_domain(augmentations=("none", "shift")))
    with pytest.raises(ProblemsError, match=r"by choosing easier ones\. Use val_accuracy"):
        check_objectives(config("train_accuracy"), chosen, BOTH)
    check_objectives(config("val_accuracy"), chosen, BOTH)
    alike = space_of(losses, recipe=recipe_domain(augmentations=("shift",)))
    check_objectives(config("train_accuracy"), alike, BOTH)


CLASSES = Task(inputs={"image": (1, 8, 8)}, num_classes=10)
NUMBERS = Task(inputs={"image": (1, 8, 8)}, num_classes=0, num_values=2)


@pytest.mark.parametrize(
    ("main", "side", "task", "needs"),
    [
        ("cross_entropy", "mse", CLASSES, "regression targets, which the data does not have"),
        ("cross_entropy", "wave", CLASSES, "regression targets, which the data does not have"),
        ("cross_entropy", "clip", CLASSES, "two streams; the data has one"),
        ("mse", "auxiliary", NUMBERS, "classes, which the data does not have"),
        ("mse", "triplet", NUMBERS, "classes, which the data does not have"),
        ("mse", "supervised_contrastive", NUMBERS, "classes, which the data does not have"),
    ],
)
def test_a_loss_term_that_the_data_cannot_serve_is_refused(
    main: str, side: str, task: Task, needs: str
) -> None:
    space = space_of(loss_domain(main=(main,), side=(side,)))
    with pytest.raises(ProblemsError, match=f"mine: space: its loss term '{side}' needs {needs}"):
        check_objectives(config("parameters"), space, task)


@pytest.mark.parametrize("name", NAMES)
def test_ready_spaces_are_accepted_on_what_they_are_made_for(name: str) -> None:
    task = example(name)
    check_objectives(config("parameters"), fit_to_task(load(name), task), task)


@pytest.mark.parametrize("task", [CLASSES, NUMBERS, BOTH])
def test_a_ready_space_is_accepted_once_it_suits_the_data(task: Task) -> None:
    check_objectives(config("parameters"), fit_to_task(load("hybrid"), task), task)


def test_a_space_that_raises_for_a_rare_option_is_a_mistake_in_the_input() -> None:
    def make(*, kind: str) -> LossWeights:
        if kind == "bad":
            raise ZeroDivisionError("of the user's own")
        return LossWeights()

    kinds = {f"good{k}": Const(f"good{k}") for k in range(200)} | {"bad": Const("bad")}
    space = space_of(Record(make, {"kind": OneOf(kinds)}))
    with pytest.raises(ProblemsError, match="the space raised ZeroDivisionError: of the user's"):
        check_objectives(config("val_accuracy", space="mine.py:space"), space, BOTH)


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


def test_of_several_numbers_each_is_aimed_at_by_its_name() -> None:
    task, names = Task(inputs={"state": (3,)}, num_classes=0, num_values=2), ("angle", "speed")
    space = fit_to_task(load("vector"), task)
    check_objectives(config("val_rmse", "val_mae/angle", "val_mae/speed"), space, task, names)
    for metric in ("val_mae", "val_mae/weight"):
        with pytest.raises(
            ProblemsError, match=f"'{metric}' is not measured: the data has 2 regression targets"
        ):
            check_objectives(config(metric), space, task, names)


def test_what_a_users_own_training_measures_is_theirs_to_judge() -> None:
    own = config("val_loss", space="mine.py:space", train="mine.py:train")
    check_objectives(own, load("hybrid"), BOTH)
