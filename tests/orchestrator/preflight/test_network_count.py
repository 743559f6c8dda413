"""Networks are counted exactly where all can be written out, and estimated with honest bounds."""

import math
import random
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from orchestrator.config.schema import StudyConfig
from orchestrator.preflight.candidates import CandidateSampler
from orchestrator.preflight.deadline import Deadline
from orchestrator.preflight.network_count import (
    ContinuousDomainError,
    GridSuggester,
    count_networks,
    estimate,
)
from search_spaces.space import SearchSpace
from search_spaces.task import Task

CONFIG = StudyConfig.model_validate({"name": "mine", "space": "tiny"})
TASK = Task(inputs={"image": (1, 8, 8)}, num_classes=10)


def test_all_networks_of_a_small_space_are_counted(
    small_space: Callable[..., SearchSpace],
) -> None:
    found = count_networks(CandidateSampler(CONFIG, small_space(), TASK), [], Deadline.after(60))

    # One stage has 2 widths of (residual, attention of 2 heads, of 4): 6, and two have 36.
    assert (found.count, found.low, found.high, found.encodings) == (42, 42, 42, 42)
    assert found.method == "counted: all 42 encodings"


def test_what_does_not_build_is_no_network(small_space: Callable[..., SearchSpace]) -> None:
    found = count_networks(
        CandidateSampler(CONFIG, small_space(heads=(2, 3)), TASK), [], Deadline.after(60)
    )

    assert found.count == 4 + 16  # three heads divide neither 8 nor 16 channels


def test_counting_that_finds_no_time_gives_way_to_an_estimate(
    small_space: Callable[..., SearchSpace],
) -> None:
    found = count_networks(
        CandidateSampler(CONFIG, small_space(), TASK), ["a", "b", "b"], Deadline.after(0)
    )

    assert "counted" not in found.method


def test_the_odometer_gives_every_combination_once_conditional_ones_too() -> None:
    grid, found = GridSuggester(), []
    while not grid.exhausted:
        grid.start()
        kind = grid.suggest_categorical("kind", ["flat", "steep"])
        size = grid.suggest_int("size", 1, 5, step=2)
        rate = grid.suggest_float("rate", 0.0, 0.5, step=0.25) if kind == "steep" else None
        assert grid.suggest_int("size", 1, 5, step=2) == size
        found.append((kind, size, rate))
        grid.advance()

    steep = product(["steep"], [1, 3, 5], [0.0, 0.25, 0.5])
    assert sorted(found, key=str) == sorted(
        [*product(["flat"], [1, 3, 5], [None]), *steep], key=str
    )


def test_a_continuous_decision_has_no_end() -> None:
    with pytest.raises(ContinuousDomainError):
        GridSuggester().suggest_float("rate", 0.0, 1.0)


@pytest.mark.parametrize("number", [300, 2_000, 20_000])
def test_the_interval_holds_the_number_that_even_draws_came_from(number: int) -> None:
    held = 0
    for seed in range(20):
        chance = random.Random(seed)
        found = estimate([str(chance.randrange(number)) for _ in range(2000)], math.inf)
        held += found.low <= number <= found.high
    assert held >= 15  # of 20; the estimate leans to the low side


def test_draws_without_a_repeat_give_a_lower_bound_alone() -> None:
    found = estimate([str(number) for number in range(1000)], 1e9)

    assert (found.low, found.count, found.high) == (166_500, 166_500, 1e9)
    assert "birthday" in found.method


def test_no_estimate_exceeds_the_number_of_encodings() -> None:
    sampled: list[Any] = [str(number) for number in range(1000)]

    assert estimate(sampled, 1200).count == 1200
