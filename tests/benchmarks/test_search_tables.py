"""Tables answer reproducibly, and simulated studies are functions of their seed."""

import random

import pytest

from benchmarks.search.ours import run_study, simulate
from benchmarks.search.tables import closed_form
from benchmarks.search.tables.space import draw_neighbor, draw_uniform
from benchmarks.search.tables.table import Table, TableWorker
from orchestrator.sampling.duplicates import digest_of
from orchestrator.trial import TrialState
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester

KEYS = {"sampler": {"name": "random"}, "budget": {"minimum": 1, "maximum": 9}}


@pytest.fixture(scope="module")
def table() -> Table:
    return closed_form.plateau()


def test_noise_depends_on_seed_and_candidate_only(table: Table) -> None:
    one, other = (draw_uniform(table.space, random.Random(i)) for i in (1, 2))
    first = [table.observe(p, 0).value_at(9) for p in (one, other)]

    assert first == [table.observe(p, 0).value_at(9) for p in (one, other)]
    assert first[0] != table.observe(one, 1).value_at(9)
    assert first[::-1] == [closed_form.plateau().observe(p, 0).value_at(9) for p in (other, one)]


def test_values_before_the_end_are_the_best_so_far() -> None:
    seen = closed_form.noise_only().observe(closed_form.DEFAULT, 3)

    assert seen.value_at(8) == max(seen.values[:8])
    assert seen.value_at(9) == seen.values[8]


@pytest.mark.parametrize("changes", [1, 3])
def test_a_neighbor_is_in_the_space_and_differs(table: Table, changes: int) -> None:
    rng = random.Random(0)
    for _ in range(100):
        base = draw_uniform(table.space, rng)
        near = draw_neighbor(table.space, base, rng, changes=changes)
        assert table.space.resolve(ReplaySuggester(near)).params == near
        assert near != base


def test_a_candidate_knows_its_predicted_cost(table: Table) -> None:
    candidate = table.space.resolve(RandomSuggester(5))
    seconds = table.observe(candidate.params, 0).seconds_at(9)

    assert candidate.cost(None)["flops"] == pytest.approx(1e6 * seconds, rel=1.0)
    assert candidate.cost(None) == table.space.resolve(RandomSuggester(5)).cost(None)
    assert digest_of(candidate, None) == candidate.digest


def test_a_simulated_study_is_reproducible_bit_for_bit(table: Table) -> None:
    def search(seed: int) -> list[object]:
        trials = simulate(
            table, TableWorker(table, seed), workers=3, units=10, seed=seed, keys=KEYS
        )
        return [(t.number, t.params, t.state, t.values, t.ended, t.measurements) for t in trials]

    assert search(0) == search(0)
    assert search(0) != search(1)


def test_a_simulated_study_spends_its_compute_and_no_more(table: Table) -> None:
    units = 12.0
    trials = simulate(table, TableWorker(table, 0), workers=4, units=units, seed=0, keys=KEYS)
    limit_s = units * table.landscape.unit_s / 4
    ended = [t.ended for t in trials if t.state is TrialState.COMPLETE]

    assert max(t.started for t in trials) <= limit_s
    assert max(ended) > 0.7 * limit_s


def test_a_run_counts_compute_over_all_workers(table: Table) -> None:
    run = run_study(table, method="random", workers=4, units=12, seed=0, keys=KEYS)

    assert [step[2] for step in run.path] == sorted(step[2] for step in run.path)
    assert all(0 < step[0] <= 12 for step in run.path)
    assert run.best >= run.goal >= run.median
