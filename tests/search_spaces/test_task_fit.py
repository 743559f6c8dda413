"""Built-in spaces fit tasks with regression targets, alone or with classes."""

import pytest
import torch

from search_spaces.catalog import example, load
from search_spaces.catalog.task_fit import fit_to_task
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.losses import build
from search_spaces.model_output import Batch, TargetScaler
from search_spaces.task import Task

NUMBERS = Task(inputs={"image": (1, 16, 16)}, num_classes=0, num_values=2)
BOTH = Task(inputs={"image": (1, 16, 16)}, num_classes=3, num_values=1)


def test_a_space_for_classes_stays_as_it_is_where_they_are_all_that_is_asked_for() -> None:
    space = load("hybrid")
    assert fit_to_task(space, example("hybrid")) is space


@pytest.mark.parametrize("name", ["hybrid", "convolution", "transformer", "tiny", "wide"])
@pytest.mark.parametrize("task", [NUMBERS, BOTH])
def test_every_space_of_images_predicts_regression_targets(name: str, task: Task) -> None:
    space = fit_to_task(load(name), task)
    for seed in range(6):
        chance = RandomSuggester(seed)
        candidate = space.resolve(chance)
        assert space.encode(candidate) == chance.params
        assert candidate.recipe.augmentation == "none"
    candidate = space.default()
    if "recipe.gradient_clip" in space.encode(candidate):
        assert candidate.recipe.gradient_clip == 1.0  # without it some seeds diverge on `shapes`
    assert space.resolve(ReplaySuggester(space.encode(candidate))) == candidate
    output = candidate.architecture.build(task)({"image": torch.randn(4, 1, 16, 16)})
    assert output.values_BV.shape == (4, task.num_values)
    values_BV = torch.randn(4, task.num_values)
    batch = Batch(
        targets_B=torch.tensor([0, 1, 2, 0]) * (task.num_classes > 0),
        values_BV=values_BV,
        target_scaler=TargetScaler(torch.zeros(task.num_values), torch.ones(task.num_values)),
    )
    terms = build(candidate.losses)(output, batch).terms
    assert all(torch.isfinite(value) for value in terms.values())
    assert {*terms} == ({"mse", "cross_entropy"} if task.num_classes else {"mse"})


def test_the_weight_of_two_answers_and_how_it_adapts_are_decided() -> None:
    space = fit_to_task(load("tiny"), BOTH)
    losses = [space.resolve(RandomSuggester(seed)).losses for seed in range(60)]
    assert all({"mse", one.main} == {*one.terms} for one in losses)
    assert len({one.balancer for one in losses}) == 8
    assert len({one.terms["mse"].weight for one in losses}) > 5


def test_a_space_with_regression_is_unchanged() -> None:
    space = load("pendulum")
    assert fit_to_task(space, example("pendulum")) is space
    sampled = [{*space.resolve(RandomSuggester(seed)).losses.terms} for seed in range(20)]
    assert {"mse"} in sampled
    assert {"mse", "pendulum_energy"} in sampled
