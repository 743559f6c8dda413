import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.confirmation.racing import Race, looks, mean_interval, race

NUMBERS = st.floats(0, 1, allow_nan=False)
ROWS = st.lists(st.lists(NUMBERS, min_size=25, max_size=25), min_size=2, max_size=5)


class Rehearsal:
    """A race on scores that are known in advance, run as a driver runs it."""

    def __init__(self, scores: Sequence[Sequence[float]], max_seeds: int) -> None:
        self.scores, self.max_seeds = scores, max_seeds
        self.trained = [0] * len(scores)

    def judge(self, failed: Sequence[str] = ()) -> Race:
        rows = [dict(enumerate(row[:n])) for row, n in zip(self.scores, self.trained, strict=True)]
        candidates = {str(name): row for name, row in enumerate(rows[1:], start=1)}
        return race(rows[0], candidates, max_seeds=self.max_seeds, failed=failed)

    def run(self) -> Race:
        while not (now := self.judge()).decided:
            for name in ("0", *now.racing):
                self.trained[int(name)] = now.next_look
        return now


def rehearse(seed: int, gains: Sequence[float], max_seeds: int, grid: float = 0.0) -> Rehearsal:
    rng = random.Random(seed)
    rows = [[gain + rng.gauss(0, 1) for _ in range(max_seeds)] for gain in (0.0, *gains)]
    if grid:
        rows = [[round(value / grid) * grid for value in row] for row in rows]
    return Rehearsal(rows, max_seeds)


@pytest.mark.parametrize("grid", [0.0, 1.0], ids=["continuous", "coarse"])
def test_on_noise_alone_at_most_5_of_100_races_have_a_winner(grid: float) -> None:
    winners = [rehearse(seed, [0, 0, 0], 10, grid).run().winner for seed in range(200)]
    assert sum(winner is not None for winner in winners) <= 10


def test_a_gain_of_two_standard_deviations_is_found_mostly_and_by_its_candidate() -> None:
    winners = [rehearse(seed, [0, 2, 0], 10).run().winner for seed in range(100)]
    assert winners.count("2") >= 80
    assert all(winner in {None, "2"} for winner in winners)


def test_a_large_gain_needs_few_seeds_and_candidates_that_are_worse_leave_early() -> None:
    rehearsal = rehearse(1, [8, -3, -3], 10)
    assert rehearsal.run().winner == "1"
    assert max(rehearsal.trained) == 3
    rehearsal = rehearse(1, [1, -8, -8], 10)
    rehearsal.run()
    assert rehearsal.trained[2:] == [3, 3]


def test_intervals_hold_the_true_gain_although_races_stop_at_a_good_moment() -> None:
    covered = 0
    for seed in range(200):
        found = rehearse(seed, [1.0, 0.0], 10).run().estimates
        covered += found["1"].low <= 1.0 <= found["1"].high
    assert covered >= 190


@given(st.integers(3, 25), ROWS)
@settings(max_examples=40, deadline=None)
def test_no_contestant_needs_more_than_the_maximum_of_seeds(
    max_seeds: int, rows: list[list[float]]
) -> None:
    rehearsal = Rehearsal(rows, max_seeds)
    end = rehearsal.run()
    assert max(rehearsal.trained) <= max_seeds
    assert set(rehearsal.trained) <= {*looks(max_seeds)}
    assert end.winner is None or end.estimates[end.winner].low > 0
    assert all(e.low <= e.mean <= e.high for e in end.estimates.values())


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_state_depends_on_complete_looks_and_not_on_the_order_of_arrival(
    seed: int, order: random.Random
) -> None:
    rehearsal = rehearse(seed, [0.5, 0.2], 10)
    rehearsal.trained = [3, 3, 3]
    before = rehearsal.judge()
    rehearsal.trained = [3 + order.randrange(3), 3 + order.randrange(2), 3]
    after = rehearsal.judge()
    if before.racing == ("1", "2"):
        assert after == before
    full = Rehearsal(rehearsal.scores, 10)
    assert full.run() == rehearse(seed, [0.5, 0.2], 10).run()


def test_a_failed_candidate_leaves_and_still_counts_in_the_correction() -> None:
    rehearsal = rehearse(3, [8, 8], 10)
    rehearsal.trained = [5, 5, 1]
    assert rehearsal.judge(failed=["2"]).winner == "1"
    alone = race(
        dict(enumerate(rehearsal.scores[0][:5])),
        {"1": dict(enumerate(rehearsal.scores[1][:5]))},
        max_seeds=10,
    )
    assert rehearsal.judge(failed=["2"]).estimates["1"].low < alone.estimates["1"].low
    assert rehearsal.judge(failed=["1", "2"]).decided


def test_equal_scores_are_no_gain() -> None:
    assert Rehearsal([[0.5] * 10, [0.5] * 10], 10).run().winner is None


def test_the_interval_of_the_best_of_several_is_wider() -> None:
    scores = [0.1, 0.2, 0.4, 0.3, 0.2]
    one, many = (mean_interval(scores, num_candidates=count) for count in (1, 5))
    assert one.mean == many.mean
    assert many.low < one.low < one.mean < one.high < many.high
