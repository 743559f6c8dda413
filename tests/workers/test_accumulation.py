"""Noise of gradients is measured truly, and the number of batches a step follows it."""

import math

import pytest
import torch
from torch import Tensor, nn

from search_spaces.recipe import Recipe
from workers.training.accumulation import (
    MAX_FACTOR,
    PROBE_INTERVAL,
    Accumulation,
    VarianceForecast,
    squared_norm,
)

WIDTH = 400


def step(accumulation: Accumulation, spread: float, *, seed: int, uneven: float = 0.0) -> int:
    """One step of batches whose gradients are 1 everywhere, give or take `spread`.

    The spread itself differs from batch to batch by the standard deviation `uneven` of its
    logarithm, and its mean square is what it is without.
    """
    chance = torch.Generator().manual_seed(seed)
    weights = nn.Parameter(torch.zeros(WIDTH))
    number = 0
    while number < accumulation.num_batches:
        number += 1
        size = torch.exp(uneven * torch.randn((), generator=chance) - uneven**2)
        pass_back(weights, 1 + spread * size * torch.randn(WIDTH, generator=chance))
        accumulation.add([weights])
    accumulation.end_step(number, [weights])
    return number


def pass_back(weights: nn.Parameter, gradient: Tensor) -> None:
    """Add a batch's gradient to the weights', as autograd does."""
    weights.grad = gradient.clone() if weights.grad is None else weights.grad + gradient


def test_the_variance_is_that_of_one_batch_over_the_squared_mean() -> None:
    accumulation = Accumulation(Recipe(accumulation=4))
    for seed in range(200):
        step(accumulation, 1.5, seed=seed)
    logged = accumulation.end_epoch()
    assert logged["gradient/variance"] == pytest.approx(1.5**2, rel=0.1)
    assert logged["gradient/step_variance"] == pytest.approx(1.5**2 / 4, rel=0.1)
    assert logged["gradient/batches"] == 4
    assert accumulation.end_epoch() == {}


def test_a_large_variance_is_measured_correctly_where_the_batches_norms_differ() -> None:
    accumulation = Accumulation(Recipe(accumulation=2))
    for seed in range(3000):
        step(accumulation, 8.0, seed=seed, uneven=0.5)
    logged = accumulation.end_epoch()
    assert logged["gradient/variance"] == pytest.approx(64, rel=0.15)
    assert logged["gradient/step_variance"] == pytest.approx(32, rel=0.15)


def test_one_step_without_a_signal_does_not_carry_the_epochs_figure_away() -> None:
    accumulation = Accumulation(Recipe(accumulation=2))
    weights = nn.Parameter(torch.zeros(1))
    for gradients in [(1.0, -1.0), *[(1.0, 1.0)] * 20]:
        weights.grad = None
        for gradient in gradients:
            pass_back(weights, torch.tensor([gradient]))
            accumulation.add([weights])
        accumulation.end_step(2, [weights])
    assert accumulation.end_epoch()["gradient/variance"] < 1


def test_metrics_of_an_adaptive_epoch_cover_all_its_steps() -> None:
    accumulation = Accumulation(Recipe(accumulation_rule="variance"))
    for spread in (1.0, 6.0, 1.0):
        done = [step(accumulation, spread, seed=seed) for seed in range(100)]
        assert accumulation.end_epoch()["gradient/batches"] == sum(done) / len(done)
    done = [step(accumulation, 1.0, seed=seed) for seed in range(5 * PROBE_INTERVAL)]
    logged = accumulation.end_epoch()
    left = sum(1 / number for number in done) / len(done)
    assert logged["gradient/step_variance"] / logged["gradient/variance"] == pytest.approx(
        left, 0.02
    )
    assert left > 0.9  # one batch was enough nearly throughout


def test_the_optimizer_gets_the_sum_of_all_batches() -> None:
    accumulation = Accumulation(Recipe(accumulation=3))
    always, once, never = parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    for number in range(1, 4):
        pass_back(always, torch.tensor([1.0, number]))
        if number == 2:
            pass_back(once, torch.tensor([5.0, 7.0]))
        accumulation.add(parameters)
    accumulation.end_step(3, parameters)
    assert always.grad is not None
    assert always.grad.tolist() == [3.0, 6.0]
    assert once.grad is not None
    assert once.grad.tolist() == [5.0, 7.0]
    assert never.grad is None


@pytest.mark.parametrize("rule", ["fixed", "variance", "forecast"])
def test_a_smaller_last_batch_counts_by_its_examples_and_is_no_measure_of_noise(rule: str) -> None:
    accumulation = Accumulation(Recipe(accumulation=2, accumulation_rule=rule))  # type: ignore[arg-type]
    weights = nn.Parameter(torch.zeros(1))
    for gradient, size in ((1.0, 64), (-100.0, 2)):
        pass_back(weights, torch.tensor([gradient]))
        accumulation.add([weights], size / 64)
    accumulation.end_step(2, [weights])
    assert weights.grad is not None
    assert float(weights.grad) / 2 == pytest.approx((64 * 1 + 2 * -100) / 66)
    assert accumulation.end_epoch() == {}
    assert accumulation.num_batches == 2


def test_a_fixed_single_batch_reports_no_variance() -> None:
    accumulation = Accumulation(Recipe(accumulation=1))
    assert {step(accumulation, 1.0, seed=seed) for seed in range(20)} == {1}
    assert accumulation.end_epoch() == {}


@pytest.mark.parametrize("rule", ["variance", "forecast"])
def test_batches_grow_with_the_noise_and_shrink_as_it_falls(rule: str) -> None:
    accumulation = Accumulation(Recipe(accumulation_rule=rule))  # type: ignore[arg-type]
    quiet = [step(accumulation, 0.1, seed=seed) for seed in range(3 * PROBE_INTERVAL)]
    assert sum(quiet) == len(quiet) + 3  # two batches at every probe, one between
    loud = [step(accumulation, 12.0, seed=seed) for seed in range(8 * PROBE_INTERVAL)]
    assert loud[-1] == MAX_FACTOR
    quiet = [step(accumulation, 0.1, seed=seed) for seed in range(20 * PROBE_INTERVAL)]
    assert quiet[-PROBE_INTERVAL + 1] == 1


def test_the_fewest_batches_are_the_recipes() -> None:
    accumulation = Accumulation(Recipe(accumulation=2, accumulation_rule="variance"))
    assert {step(accumulation, 0.01, seed=seed) for seed in range(20)} == {2}


def test_what_was_measured_survives_a_checkpoint() -> None:
    recipe = Recipe(accumulation_rule="forecast")
    torch.manual_seed(1)
    first, second = Accumulation(recipe), Accumulation(recipe)
    for seed in range(30):
        step(first, 1.0 + seed / 10, seed=seed)
    second.load_state_dict(first.state_dict())
    later = range(100, 140)
    assert [step(first, 2.0, seed=s) for s in later] == [step(second, 2.0, seed=s) for s in later]
    assert torch.equal(first.memory, second.memory)


def test_an_epoch_after_a_checkpoint_reports_the_same_metrics() -> None:
    first, second = (Accumulation(Recipe(accumulation_rule="variance")) for _ in range(2))
    for seed in range(30):
        step(first, 3.0, seed=seed)
    first.end_epoch()
    second.load_state_dict(first.state_dict())
    for seed in range(30, 60):
        step(first, 3.0, seed=seed)
        step(second, 3.0, seed=seed)
    assert first.end_epoch() == second.end_epoch()


def test_the_forecast_learns_a_rhythm_that_the_last_value_misses() -> None:
    torch.manual_seed(0)
    forecast = VarianceForecast()
    values = [1.0 if turn % 2 else 10.0 for turn in range(600)]
    expected = [forecast(value) for value in values]
    missed = [abs(math.log(e / v)) for e, v in zip(expected[:-1], values[1:], strict=True)]
    assert missed[0] == pytest.approx(math.log(10), rel=0.01)  # begins by expecting no change
    assert sum(missed[-50:]) / 50 < 0.2 * math.log(10)


def test_the_norm_is_that_of_all_gradients_together() -> None:
    one, other, idle = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    one.grad, other.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert float(squared_norm([one, other, idle])) == pytest.approx(25.0)
