"""Searches that start from a study on other data, in simulated time; resumable.

    python -m benchmarks.search.transfer [--seeds 20] [--workers 8] [--out results/search-transfer]
        [--shard 0/2] [--table]

Tables are the development tasks of LCBench. For each task the earlier study ran on the task whose
true finals correlate most with its own (`related`), on the one whose correlate least
(`unrelated`), or on the related one with its finals reversed, so that its best candidates are the
worst (`reversed`). An earlier study is a search of this product with the same budget of compute
and a seed of its own; it is kept as a ledger in the output's folder.

Time to goal: compute until the incumbent is truly among the best 5 % of uniform samples; not
reached counts as twice the horizon. Runs are paired by task and seed with searches without an
earlier study; 95 % bootstrap over tasks, then seeds.
"""

import argparse
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from benchmarks.search.bootstrap import compare, log_regret, log_time, time_to_goal
from benchmarks.search.compare import markdown
from benchmarks.search.engine import SimulatedClock
from benchmarks.search.measure import missing
from benchmarks.search.ours import LEDGER, run_study, scratch_folder, search_in, study_config
from benchmarks.search.runs import Run
from benchmarks.search.storage import append, in_progress
from benchmarks.search.suites import Suite
from benchmarks.search.tables.lcbench import DEVELOPMENT, lcbench
from benchmarks.search.tables.space import Params, draw_uniform
from benchmarks.search.tables.table import Numbers, Table, TableWorker

OUT = Path("results/search-transfer")
GOAL_SHARE = 0.05
BASE = "without"
METHODS = ("related", "unrelated", "reversed")
LONG_AGO = -1e9
"""Start of the earlier studies' clock; searches start at 0."""
SOURCE_SEEDS = 5
"""Number of different earlier studies of a task, and first difference of their seeds."""


def tables() -> list[Table]:
    """Return the tasks as tables of one space."""
    return [_with_goal(lcbench(task)) for task in DEVELOPMENT]


def _with_goal(table: Table) -> Table:
    space = replace(table.space, name="lcbench")
    return replace(table, space=space, goal_share=GOAL_SHARE, _seen={})


def reversed_table(table: Table) -> Table:
    """Return a table whose finals have the reversed order, each curve scaled to its final."""
    land = table.landscape

    def curves(points: Sequence[Params], fidelities: Sequence[int]) -> tuple[Numbers, Numbers]:
        values, seconds = table.curves(points, fidelities)
        finals = table.curves(points, [table.top])[0]
        return values / finals * (land.best + land.worst - finals), seconds

    return replace(table, name=f"{table.name}-reversed", curves=curves, _seen={})


@lru_cache(maxsize=1)
def correlations() -> Numbers:
    """Return Spearman's correlation of each task's true finals with each other's."""
    known = tables()
    rng = random.Random(5)
    points = [draw_uniform(known[0].space, rng) for _ in range(2000)]
    finals = np.array([table.curves(points, [table.top])[0][:, 0] for table in known])
    found: Numbers = np.corrcoef(finals.argsort(axis=1).argsort(axis=1))
    return found


def source_of(table: Table, method: str) -> tuple[Table, float]:
    """Return the table of the earlier study, and its correlation with a table."""
    known = tables()
    index = [each.name for each in known].index(table.name)
    row = correlations()[index].copy()
    row[index] = np.nan
    other = int(np.nanargmin(row) if method == "unrelated" else np.nanargmax(row))
    if method == "reversed":
        return reversed_table(known[other]), -float(row[other])
    return known[other], float(row[other])


def earlier_study(table: Table, seed: int, workers: int, units: float, folder: Path) -> Path:
    """Return the ledger of an earlier study, after running it if it is not known."""
    path = folder / "sources" / f"{table.name}-{seed}.db"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        keys = {"name": "earlier"}
        config = study_config(table, workers=workers, units=units, seed=1000 + seed, keys=keys)
        with scratch_folder() as scratch:
            worker, clock = TableWorker(table, 1000 + seed), SimulatedClock(LONG_AGO)
            search_in(scratch, table, worker, config, workers=workers, clock=clock)
            shutil.copy(scratch / LEDGER, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)
    return path


def run(method: str, table: Table, suite: Suite, seed: int, folder: Path) -> Run:
    """Search a table from an earlier study; `without` starts from none."""
    earlier, keys = None, {}
    if method != BASE:
        source, _ = source_of(table, method)
        earlier = earlier_study(source, seed % SOURCE_SEEDS, suite.workers, suite.units, folder)
        keys = {"warm_start": ["earlier"]}
    return run_study(
        table,
        method=method,
        workers=suite.workers,
        units=suite.units,
        seed=seed,
        keys=keys,
        earlier=earlier,
    )


def table_of(suite: Suite, folder: Path) -> str:
    """Return the comparison with searches without an earlier study."""
    base = in_progress(folder, suite.name, BASE)
    rows = []
    for method in suite.methods:
        runs = in_progress(folder, suite.name, method)
        if not runs:
            continue
        faster, by_task = compare(runs, base, log_time)
        regret, _ = compare(runs, base, partial(log_regret, units=suite.units / 2))
        time = np.exp(np.mean([log_time(each) for each in runs]))
        reached = np.mean([time_to_goal(each) is not None for each in runs])
        cpu = np.mean([each.cpu_s / each.trials for each in runs])
        row = [method, str(len(runs)), f"{time:.2f}", f"{reached:.2f}", str(faster), str(regret)]
        rows.append([*row, *(str(by_task.get(t, "")) for t in _names()), f"{1000 * cpu:.0f}"])
    head = ["earlier study", "runs", "time to goal", "reached", "times faster"]
    head += [f"regret ratio @{suite.units / 2:g}", *_names(), "CPU ms a trial"]
    return markdown(head, rows)


def _names() -> list[str]:
    return [f"lcbench-{task}" for task in DEVELOPMENT]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--units", type=float, default=20)
    parser.add_argument("--methods", nargs="+", default=[BASE, *METHODS])
    parser.add_argument("--shard", default="0/1", help="this of so many processes")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    given = parser.parse_args(arguments)
    place, shards = (int(part) for part in given.shard.split("/"))
    suite = Suite(
        name=f"transfer-{given.workers}",
        tables=tables,
        workers=given.workers,
        units=given.units,
        seeds=given.seeds,
        methods=given.methods,
        reference=BASE,
    )
    if not given.table:
        for seed, table, method in missing(suite, tables(), given.out, (place, shards)):
            append(given.out, suite.name, run(method, table, suite, seed, given.out))
    print(table_of(suite, given.out))


if __name__ == "__main__":
    main(sys.argv[1:])
