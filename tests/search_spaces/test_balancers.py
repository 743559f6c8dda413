"""Balancers equal their papers on cases with solutions by hand."""

import itertools
import math
from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd.scalarization import DWA, UW

from search_spaces import losses
from search_spaces.balancers import BALANCERS, make
from search_spaces.balancers.gradients import GradNorm
from search_spaces.balancers.values import RATE, DynamicAverage
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.loss_terms import OWN_WEIGHTS, BalancerName, LossTerm, LossWeights, loss_term
from search_spaces.losses import LossValue, loss_domain
from search_spaces.losses.scale import FLOOR, FREEZE_AFTER, WARMUP_STEPS, Scale
from search_spaces.model_output import Batch, ModelOutput
from search_spaces.recipe import Recipe
from workers.training.optimization import Optimization

EVEN = torch.tensor([0.5, 0.5])
STEPS = 30


def balanced(name: BalancerName, rows: Sequence[Sequence[float]], shares: Tensor = EVEN) -> Tensor:
    """The gradient that a balancer makes of terms with these gradients."""
    balancer = make(name, shares)
    x = nn.Parameter(torch.zeros(len(rows[0])))
    terms = [torch.tensor(row) @ x + 1 for row in rows]
    balancer.backward(terms, [x])
    assert x.grad is not None
    return x.grad


def test_every_name_has_a_balancer() -> None:
    assert set(BALANCERS) == set(get_args(BalancerName))


@pytest.mark.parametrize("name", BALANCERS)
def test_the_reported_weights_are_those_that_were_used(name: BalancerName) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(6, 4)

    def terms() -> list[Tensor]:
        out = network(x)
        return [out[:, 0].square().mean(), out[:, 1].abs().mean(), (out[:, 2] - 1).square().mean()]

    balancer = make(name, torch.tensor([0.2, 0.3, 0.5]))
    learners = [*network.parameters(), *balancer.parameters()]  # type: ignore[attr-defined]
    weights_K = balancer.backward(terms(), learners)
    found = [p.grad for p in network.parameters()]
    expected = torch.autograd.grad(
        (torch.stack(terms()) * weights_K).sum(), list(network.parameters())
    )
    assert weights_K.shape == (3,)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_gradients_that_are_no_numbers_are_passed_on_for_the_trainer_to_see(
    name: BalancerName, wrong: float
) -> None:
    assert not balanced(name, [(1.0, 0.0), (wrong, 10.0)]).isfinite().all()


def test_fixed_weights_stay_as_they_were_decided() -> None:
    found = balanced("fixed", [(1.0, 0.0), (0.0, 10.0)], torch.tensor([0.25, 0.75]))
    assert found.tolist() == pytest.approx([0.25, 7.5])


def test_uncertainty_pulls_like_kendalls_and_settles_where_each_term_counts_alike() -> None:
    ours, theirs = make("uncertainty", EVEN), UW(2)
    values = torch.tensor([4.0, 0.25], requires_grad=True)
    ours.backward(list(values), [])
    expected = torch.autograd.grad(theirs(values), [values, theirs.log_var])
    torch.testing.assert_close(values.grad, expected[0])
    # Where the decided weights are even, theirs is half of a step without them; it is bounded.
    moved_K = ours.log_variance_K / -RATE  # type: ignore[attr-defined]
    torch.testing.assert_close(moved_K, (2 * expected[1]).clamp(-1, 1))
    for _ in range(400):
        weights = ours.backward(list(values), [])
    assert (weights * values.detach()).tolist() == pytest.approx([0.5, 0.5], rel=1e-3)


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("optimizer", ["sgd_nesterov", "adamw"])
def test_constant_losses_keep_moderate_factors_at_the_ends_of_every_recipe(
    name: BalancerName, optimizer: str
) -> None:
    ends = {"sgd_nesterov": (0.01, 1.0), "adamw": (3e-4, 2e-2)}[optimizer]
    for rate, side in itertools.product(ends, (0.1, 2.0)):
        terms = {"cross_entropy": LossTerm(), "supervised_contrastive": LossTerm(weight=side)}
        loss = losses.build(LossWeights(main="cross_entropy", terms=terms, balancer=name))
        initial_weights_K = torch.tensor(list(loss.weights.values()))
        network = nn.Linear(2, 1, bias=False)
        recipe = Recipe(optimizer=optimizer, learning_rate=rate, warmup=0.0)  # type: ignore[arg-type]
        optimization = Optimization([network, loss], recipe, STEPS)
        for step in range(STEPS):
            # Values that stay, and gradients that stay: what is learned leads nowhere.
            still = (network.weight - network.weight.detach())[0]
            values = {"cross_entropy": 2.3 + still[0], "supervised_contrastive": 1 + still[1]}
            loss.backward(LossValue(terms=values, main=torch.tensor(2.3)), optimization.parameters)
            optimization.step(step)
            if step > WARMUP_STEPS:
                factors_K = loss.epoch[-1][1] / initial_weights_K
                assert factors_K.min() > 0.05, (rate, side, step)
                assert factors_K.max() < 20, (rate, side, step)


def test_uncertainty_learns_nothing_of_a_term_that_is_not_there_yet() -> None:
    balancer = make("uncertainty", EVEN)
    for _ in range(20):
        balancer.backward(
            [torch.tensor(2.0, requires_grad=True), torch.zeros((), requires_grad=True)], []
        )
    main, side = balancer.log_variance_K.tolist()  # type: ignore[attr-defined]
    assert main > 0
    assert side == 0


def test_dynamic_average_follows_an_independent_one_over_epochs() -> None:
    ours, theirs = make("dwa", EVEN), DWA()
    for epoch in ((2.0, 1.0), (1.0, 0.9), (0.9, 0.2), (0.5, 0.19)):
        values = torch.tensor(epoch)
        learner = nn.Parameter(torch.ones(2))
        weights = ours.backward(list(values * learner), [learner])
        assert (weights * values).sum().item() * 2 == pytest.approx(theirs(values).item())
        ours.end_epoch(values)
        theirs.step()


def test_gradnorm_ends_where_all_terms_pull_equally_hard() -> None:
    weigh = GradNorm(EVEN)
    gramian = torch.diag(torch.tensor([1.0, 9.0]))
    for _ in range(500):
        weights = weigh(gramian, torch.tensor([2.0, 5.0]))
    # The norms are 1 and 3, and neither lags behind: weights as 3 to 1.
    assert weights.tolist() == pytest.approx([0.75, 0.25], abs=0.02)


def test_gradnorm_helps_the_term_that_lags_behind() -> None:
    weigh = GradNorm(EVEN)
    gramian = torch.eye(2)
    weigh(gramian, torch.tensor([1.0, 1.0]))
    for _ in range(100):
        weights = weigh(gramian, torch.tensor([0.9, 0.3]))
    assert weights[0] > 0.6


def test_gradnorm_waits_for_a_term_that_is_silent_at_first() -> None:
    gramian_KK = torch.eye(2)
    for size in (2.3, 0.02):
        weigh = GradNorm(EVEN)
        weigh(gramian_KK, torch.tensor([size, 0.0]))
        for _ in range(200):
            weights_K = weigh(gramian_KK, torch.tensor([size, size]))
        assert weights_K.tolist() == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_term_out_of_nothing_does_not_silence_the_others_under_dwa() -> None:
    balancer = DynamicAverage(EVEN)
    for means in ([1.0, 1e-9], [1.0, 1e-3]):
        balancer.end_epoch(torch.tensor(means))
    weights_K = balancer.backward([torch.ones((), requires_grad=True)] * 2, [])
    assert weights_K[0] > 0.3


def test_mgda_finds_the_shortest_convex_combination() -> None:
    # Of (2, 0) and (0, 1): a = 1 / 5, by setting the derivative of the norm to zero.
    assert balanced("mgda", [(2.0, 0.0), (0.0, 1.0)]).tolist() == pytest.approx([0.4, 0.8], 1e-3)
    # The shorter of two that point one way is the shortest of all.
    assert balanced("mgda", [(3.0, 0.0), (1.0, 0.0)]).tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("name", BALANCERS)
def test_a_term_without_a_gradient_does_not_stop_the_others(name: BalancerName) -> None:
    found = balanced(name, [(1.0, 2.0), (0.0, 0.0)])
    assert found[1].item() == pytest.approx(2 * found[0].item())
    assert found[0] > 0.05


def test_pcgrad_drops_what_conflicts() -> None:
    # (1, 0) without its part against (-1, 1): (1/2, 1/2); (-1, 1) without its part against: (0, 1).
    found = balanced("pcgrad", [(1.0, 0.0), (-1.0, 1.0)])
    assert (found * 2).tolist() == pytest.approx([0.5, 1.5])
    assert balanced("pcgrad", [(1.0, 0.0), (1.0, 1.0)]).tolist() == pytest.approx([1.0, 0.5])


def test_imtl_g_projects_equally_on_every_gradient() -> None:
    rows = [(3.0, 0.0), (1.0, 1.0)]
    found = balanced("imtl_g", rows)
    along = [float(found @ torch.tensor(row)) / math.hypot(*row) for row in rows]
    assert along[0] == pytest.approx(along[1], rel=1e-4)


def test_aligned_mtl_makes_orthogonal_gradients_equally_long() -> None:
    # Each is brought to the length of the shortest, 1, and weighed by the decided weight.
    found = balanced("aligned_mtl", [(4.0, 0.0), (0.0, 1.0)], torch.tensor([0.75, 0.25]))
    assert found.tolist() == pytest.approx([0.75, 0.25], rel=1e-4)


@loss_term("inflated_for_a_test", needs=("logits",))
class Inflated(nn.Module):
    factor = 1.0

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        return self.factor * output.logits_BK.square().mean()


@settings(deadline=None, max_examples=20)
@given(factor=st.floats(1e-4, 1e4), name=st.sampled_from(sorted(BALANCERS)))
def test_a_weight_means_the_same_whatever_a_terms_own_scale(
    factor: float, name: BalancerName
) -> None:
    def gradients(scale: float) -> list[Tensor]:
        torch.manual_seed(0)
        network = nn.Linear(5, 4)
        terms = {"cross_entropy": LossTerm(), "inflated_for_a_test": LossTerm(weight=0.5)}
        loss = losses.build(LossWeights(main="cross_entropy", terms=terms, balancer=name))
        loss.terms["inflated_for_a_test"].factor = scale  # type: ignore[assignment]
        learners = [*network.parameters(), *loss.parameters()]
        for _ in range(WARMUP_STEPS + 3):
            network.zero_grad()
            batch = Batch(targets_B=torch.tensor([0, 1, 2]))
            value = loss(ModelOutput(logits_BK=network(torch.randn(3, 5))), batch)
            loss.backward(value, learners)
        return [p.grad for p in network.parameters() if p.grad is not None]

    for ours, plain in zip(gradients(factor), gradients(1.0), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5)


def scaled(scale: Scale, *values: float, steps: int, runs: bool = True) -> list[float]:
    """The factors after so many steps of these values."""
    for _ in range(steps):
        factors_K = scale(torch.tensor(values), runs=runs)
    found: list[float] = factors_K.tolist()
    return found


def test_a_term_joins_when_its_size_is_known() -> None:
    scale = Scale(3, main=0)
    assert scaled(scale, 2.0, 4.0, 0.0, steps=WARMUP_STEPS - 1) == [1.0, 0.0, 0.0]
    assert scaled(scale, 2.0, 4.0, 0.0, steps=1) == pytest.approx([1.0, 0.5, 0.0])
    assert scaled(scale, 2.0, 4.0, 8.0, steps=WARMUP_STEPS) == pytest.approx([1.0, 0.5, 0.25])


@pytest.mark.parametrize("runs", [True, False])
def test_a_term_that_begins_near_zero_is_not_blown_up(runs: bool) -> None:
    scale = Scale(2, main=0)
    assert scaled(scale, 1.0, 1e-8, steps=1, runs=runs) == [1.0, 0.0]
    factors = [scaled(scale, 1.0, 1.0, steps=1, runs=runs)[1] for _ in range(2 * FREEZE_AFTER)]
    assert max(factors) < 1.2
    assert factors[-1] == pytest.approx(1.0, abs=0.05)


def test_a_solved_term_counts_as_a_share_of_its_largest_size() -> None:
    scale = Scale(2, main=0)
    scaled(scale, 1.0, 0.1, steps=20)
    scaled(scale, 1.0, 4.0, steps=1000)
    assert scaled(scale, 1.0, 1e-9, steps=2000)[1] == pytest.approx(1 / (4.0 * FLOOR), rel=1e-3)


def test_sizes_that_do_not_follow_stay_once_they_have_settled() -> None:
    scale = Scale(2, main=0)
    scaled(scale, 1.0, 4.0, steps=FREEZE_AFTER, runs=False)
    assert scaled(scale, 9.0, 0.1, steps=100, runs=False) == pytest.approx([1.0, 0.25])


def test_weights_that_a_balancer_overrules_make_no_other_candidate() -> None:
    def digest_of(weight: float, balancer: BalancerName) -> object:
        terms = {"cross_entropy": LossTerm(), "auxiliary": LossTerm(weight=weight)}
        return LossWeights(terms=terms, balancer=balancer).canonical()

    for name in OWN_WEIGHTS:
        assert digest_of(0.5, name) == digest_of(1.5, name)
    assert digest_of(0.5, "fixed") != digest_of(1.5, "fixed")
    assert LossWeights(balancer="dwa").canonical() == LossWeights().canonical()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_balancers_are_decisions_of_the_space(seed: int) -> None:
    domain = loss_domain(always=("focal",), main=("cross_entropy",), balancers=tuple(BALANCERS))
    chance = RandomSuggester(seed)
    weights = domain.resolve(chance, "losses")
    assert {"cross_entropy", "focal"} <= set(weights.terms)
    assert weights.balancer == chance.params["losses.balancer"]
    assert domain.encode(weights, "losses") == chance.params
    assert domain.resolve(ReplaySuggester(chance.params), "losses") == weights
    assert LossWeights.from_dict(weights.to_dict()) == weights
