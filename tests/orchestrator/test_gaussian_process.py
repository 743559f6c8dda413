"""The model of scores and costs: its predictions, and what it makes of awaited results."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import multivariate_normal

from orchestrator.sampling import gaussian_process
from orchestrator.sampling.acquisition import (
    chebyshev,
    chebyshev_improvement,
    expected_improvement,
)
from orchestrator.sampling.gaussian_process import GaussianProcess
from orchestrator.sampling.predicted_ends import predicted_ends

RNG = np.random.default_rng(0)
INPUTS = RNG.random((40, 5))
TARGETS = INPUTS @ np.array([3.0, -2.0, 0.0, 0.0, 1.0]) + np.sin(3 * INPUTS[:, 2])
POINTS = RNG.random((15, 5))


def test_predictions_follow_the_function() -> None:
    truth = POINTS @ np.array([3.0, -2.0, 0.0, 0.0, 1.0]) + np.sin(3 * POINTS[:, 2])
    mean, std = GaussianProcess(INPUTS, TARGETS).predict(POINTS)
    assert np.corrcoef(mean, truth)[0, 1] > 0.9
    assert (np.abs(mean - truth) < 4 * std).all()


def test_a_feature_that_all_share_changes_nothing() -> None:
    """Numbers have an offset, so that absent ones differ; it takes no part of the prior."""
    mean, std = GaussianProcess(INPUTS, TARGETS).predict(POINTS)
    shifted_mean, shifted_std = GaussianProcess(INPUTS + 5, TARGETS).predict(POINTS + 5)
    assert shifted_mean == pytest.approx(mean)
    assert shifted_std == pytest.approx(std)


def test_predictions_are_in_the_units_of_the_targets() -> None:
    mean, std = GaussianProcess(INPUTS, TARGETS).predict(POINTS)
    other_mean, other_std = GaussianProcess(INPUTS, 1000 * TARGETS + 7).predict(POINTS)
    assert other_mean == pytest.approx(1000 * mean + 7)
    assert other_std == pytest.approx(1000 * std, rel=1e-5)


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_settings_have_the_largest_evidence_of_the_grid(spread: float) -> None:
    targets, extra = (TARGETS - TARGETS.mean()) / TARGETS.std(), spread * RNG.random(40)
    center, kernel, noise = gaussian_process._by_evidence(INPUTS, targets, extra)
    points = gaussian_process._Points.around(center, INPUTS)
    median, evidence = np.median(pdist(INPUTS, "sqeuclidean")), {}
    for length, amplitude, other in product(
        gaussian_process._LENGTHS, gaussian_process._AMPLITUDES, gaussian_process._NOISES
    ):
        one = replace(kernel, length=length * median, amplitude=amplitude)
        covariance = one(points, points) + np.diag(other + extra)
        density = multivariate_normal(cov=covariance).logpdf(targets)
        evidence[one.length, amplitude, other] = density
    best = max(evidence, key=lambda settings: evidence[settings])
    assert best == pytest.approx((kernel.length, kernel.amplitude, noise))


def test_awaited_results_lower_the_deviation_near_them_and_keep_the_mean() -> None:
    process = GaussianProcess(INPUTS, TARGETS)
    mean, std = process.predict(POINTS)
    process.await_results(POINTS[:1])
    same, lower = process.predict(POINTS)
    assert same == pytest.approx(mean)
    assert lower[0] < 0.9 * std[0]
    assert (lower <= std + 1e-9).all()


def test_spread_results_count_less() -> None:
    wrong = np.append(TARGETS, 100.0)
    inputs = np.vstack([INPUTS, POINTS[:1]])
    trusted = GaussianProcess(inputs, wrong).predict(POINTS[:1])[0]
    spread = np.append(np.zeros(len(TARGETS)), 1000.0)
    doubted = GaussianProcess(inputs, wrong, spread).predict(POINTS[:1])[0]
    assert doubted < trusted / 2


def test_features_that_only_points_have_count_as_absent_elsewhere() -> None:
    process = GaussianProcess(INPUTS, TARGETS)
    wide = np.hstack([POINTS, np.zeros((len(POINTS), 2))])
    assert process.predict(wide)[0] == pytest.approx(process.predict(POINTS)[0])
    wide[:, -1] = 1.0
    assert (process.predict(wide)[1] > process.predict(POINTS)[1]).all()


def test_equal_results_are_accepted() -> None:
    mean, std = GaussianProcess(INPUTS, np.ones(40)).predict(POINTS)
    assert mean == pytest.approx(np.ones(15))
    assert np.isfinite(std).all()


def test_improvement_grows_with_mean_and_deviation() -> None:
    improvement = expected_improvement(np.array([0.0, 0.1, 0.0]), np.array([0.1, 0.1, 0.2]), 0.2)
    samples = np.maximum(RNG.normal(0.0, 0.1, 200_000) - 0.2, 0).mean()
    assert improvement[0] == pytest.approx(samples, rel=0.1)
    assert improvement[0] < improvement[1] < improvement[2]


def test_chebyshev_prefers_what_its_weights_ask_for() -> None:
    front = np.array([[1.0, 0.0], [0.6, 0.6], [0.0, 1.0]])
    for weights, best in (((0.95, 0.05), 0), ((0.5, 0.5), 1), ((0.05, 0.95), 2)):
        assert int(np.argmax(chebyshev(front, np.array(weights)))) == best


def test_improvement_in_several_objectives_needs_all_that_have_weight() -> None:
    noise = RNG.standard_normal((256, 2))
    mean, std = np.array([[0.9, 0.1], [0.7, 0.7]]), np.full((2, 2), 0.05)
    weights = np.array([0.5, 0.5])
    best = float(chebyshev(np.array([0.5, 0.5]), weights))
    narrow, even = chebyshev_improvement(mean, std, weights, best, noise)
    assert even > narrow


def test_ends_are_predicted_from_trials_that_have_both_scores() -> None:
    early = np.array([0.1, 0.2, 0.3, 0.4, 0.35, 0.1])
    curves = np.column_stack([early, np.where(np.arange(6) < 4, early + 0.1, np.nan)])
    finals = np.append(early[:4] + 0.5, [np.nan, np.nan])
    ends, spreads = predicted_ends(curves, finals)
    assert ends[:4] == pytest.approx(finals[:4])
    assert (spreads[:4] == 0).all()
    assert ends[4] > ends[5]
    assert ends[4] == pytest.approx(0.85, abs=0.06)
    assert (spreads[4:] > 0).all()


def test_a_trial_may_lack_the_scores_of_early_rungs() -> None:
    curves = np.array([[np.nan, 0.2], [np.nan, 0.4], [np.nan, 0.3]])
    ends, _ = predicted_ends(curves, np.array([0.5, 0.7, np.nan]))
    assert 0.5 < ends[2] < 0.7


def test_without_complete_trials_the_score_itself_is_the_prediction() -> None:
    ends, spreads = predicted_ends(np.array([[0.2], [0.4], [np.nan]]), np.full(3, np.nan))
    assert ends[:2].tolist() == [0.2, 0.4]
    assert spreads[0] > 0
    assert np.isnan(ends[2])
