"""The search benchmark orders methods whose order is known, and stores each run once."""

import json
import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search import measure, storage
from benchmarks.search.bootstrap import compare, log_regret, log_time, time_to_goal
from benchmarks.search.methods import PEERS, search
from benchmarks.search.peers.event_loop import run_peer
from benchmarks.search.peers.proposers import FirstHalving, StoppingPeer, UniformProposer
from benchmarks.search.runs import Run
from benchmarks.search.suites import Suite
from benchmarks.search.tables import closed_form
from benchmarks.search.tables.space import draw_uniform
from benchmarks.search.tables.table import Table


@pytest.fixture(scope="module")
def plateau() -> Table:
    return closed_form.plateau()


def runs(method: str, table: Table, seeds: int, units: float = 20) -> list[Run]:
    return [search(method, table, workers=2, units=units, seed=seed) for seed in range(seeds)]


def regret(found: list[Run]) -> float:
    return math.exp(np.mean([log_regret(run, run.units) for run in found]))


def test_the_oracle_is_first_ours_beats_random_and_the_worst_is_last(plateau: Table) -> None:
    seeds = {"oracle": 1, "ours": 3, "random": 3, "worst": 1}
    regrets = {method: regret(runs(method, plateau, n, units=25)) for method, n in seeds.items()}

    assert sorted(seeds, key=regrets.__getitem__) == list(seeds), regrets


@pytest.mark.parametrize("method", sorted(set(PEERS) - {"worst"}))
def test_every_peer_is_reproducible_and_improves_on_the_default(
    plateau: Table, method: str
) -> None:
    one, other = (search(method, plateau, workers=4, units=25, seed=3) for _ in range(2))

    assert one.path == other.path
    assert one.path[-1][3] > one.default
    assert 0 < one.complete <= one.trials


def test_early_values_of_crossing_curves_rank_wrongly() -> None:
    table = closed_form.crossing()
    rng = random.Random(0)
    points = [draw_uniform(table.space, rng) for _ in range(200)]
    values, _ = table.curves(points, [1, 3, 9])
    ranks = np.argsort(np.argsort(values, axis=0), axis=0)
    first, second, _ = np.corrcoef(ranks.T)[-1]

    assert first < -0.3
    assert second > 0.9


def test_crossing_curves_mislead_halving_from_the_first_epoch_but_not_the_product() -> None:
    table = closed_form.crossing()
    naive = StoppingPeer(table, UniformProposer(table, 0), (1, 3), FirstHalving())
    found = run_peer(table, naive, method="naive", workers=1, units=20, seed=0)

    for method in ("random", "ours"):
        better = search(method, table, workers=1, units=20, seed=0)
        assert better.path[-1][3] > found.path[-1][3] + 0.05


def test_measures_of_a_run() -> None:
    path = [(1.0, 0, 0.5, 0.5), (4.0, 3, 0.8, 0.75), (9.0, 7, 0.9, 0.7)]
    run = Run(
        method="m",
        table="t",
        workers=1,
        units=10,
        seed=0,
        trials=9,
        complete=3,
        sane=1.0,
        path=path,
        best=0.9,
        median=0.5,
        goal=0.75,
        default=0.5,
        reference=0.5,
        cpu_s=0.0,
    )

    assert time_to_goal(run) == 4.0
    assert log_regret(run, 5) == pytest.approx(math.log(0.375))
    assert log_time(replace(run, goal=0.8)) == math.log(20)
    assert Run.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_a_ratio_pairs_seeds_and_its_interval_covers_both_tables(plateau: Table) -> None:
    base = runs("random", plateau, seeds=1)[0]

    def at(table: str, seed: int, units: float) -> Run:
        return replace(base, table=table, seed=seed, goal=0.0, path=[(units, 0, 1.0, 1.0)])

    keys = [(table, seed) for table in ("a", "b") for seed in range(20)]
    slow = [at(table, seed, 8.0 + seed) for table, seed in keys]
    fast = [at(t, s, (8.0 + s) / (2 if t == "a" else 4)) for t, s in keys]
    both, single = compare(fast, slow, log_time)

    assert both.ratio == pytest.approx(math.sqrt(8))
    assert both.low == pytest.approx(2)
    assert both.high == pytest.approx(4)
    assert single["b"].high - single["b"].low == pytest.approx(0)  # pairs leave no spread


def test_what_is_stored_is_not_run_again(plateau: Table, tmp_path: Path) -> None:
    suite = Suite(
        name="s", tables=lambda: [plateau], workers=2, units=5, seeds=2, methods=("random",)
    )
    left = partial(measure.missing, suite, [plateau], tmp_path)

    assert len(list(left((0, 1)))) == 2
    measure.measure(suite, tmp_path, (0, 2))
    assert [seed for seed, _, _ in left((0, 1))] == [1]
    measure.measure(suite, tmp_path, (0, 1))
    assert not list(left((0, 1)))
    assert [run.seed for run in storage.in_progress(tmp_path, "s", "random")] == [0, 1]


def test_stored_results_are_read_back_and_replaced_by_newer_runs(
    plateau: Table, tmp_path: Path
) -> None:
    old, new = runs("random", plateau, seeds=2, units=5)
    out, results = tmp_path / "out", tmp_path / "results"
    storage.append(out, "s", old)
    assert storage.store("s", ["random", "worst"], out, results) == 1
    storage.append(tmp_path / "again", "s", new)
    assert storage.stored("s", "random", results) == [old]
    assert storage.store("s", ["random"], tmp_path / "again", results) == 1
    assert storage.stored("s", "random", results) == [new]
    assert storage.store("s", ["random"], tmp_path / "nothing", results) == 1
