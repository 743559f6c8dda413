"""Run searches in simulated time; resumable, one line of JSON a run.

    python -m benchmarks.search.measure [--final] [--suites lcbench] [--methods ours today]
        [--seeds 10] [--shard 0/2] [--out results/search] [--store]

Runs whose line exists are not run again, nor those of peers in the repository's results; delete a
method's file to measure it again. `--store` writes all runs into the repository's results instead.
The tasks of `--final` are kept for releases: its runs must all come from one commit.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.search.methods import PEERS, search
from benchmarks.search.runs import Run
from benchmarks.search.storage import OUT, append, in_progress, store, stored
from benchmarks.search.suites import DEVELOPMENT_SUITES, FINAL_SUITES, Suite
from benchmarks.search.tables.table import Table

ROOT = Path(__file__).resolve().parents[2]


def missing(
    suite: Suite, tables: list[Table], folder: Path, shard: tuple[int, int]
) -> Iterator[tuple[int, Table, str]]:
    """Yield seed, table and method of the runs that are still to do, seed by seed."""
    known = {
        (method, run.table, run.seed)
        for method in suite.methods
        for run in _known(suite.name, method, folder)
        if (run.workers, run.units) == (suite.workers, suite.units)
    }
    place, shards = shard
    every = [
        (seed, table, method)
        for seed in range(suite.seeds)
        for table in tables
        for method in suite.methods
    ]
    for index, (seed, table, method) in enumerate(every):
        if index % shards == place and (method, table.name, seed) not in known:
            yield seed, table, method


def _known(suite: str, method: str, folder: Path) -> list[Run]:
    """Return the runs that need no repetition; peers do not change, so stored ones count."""
    peers = stored(suite, method) if method in PEERS else []
    return peers + in_progress(folder, suite, method)


def measure(suite: Suite, folder: Path, shard: tuple[int, int]) -> None:
    """Run what is missing in a suite."""
    began, done = time.monotonic(), 0
    for seed, table, method in missing(suite, list(suite.tables()), folder, shard):
        run = search(method, table, workers=suite.workers, units=suite.units, seed=seed)
        append(folder, suite.name, run)
        done += 1
        if done % 50 == 0:
            print(f"{suite.name}: {done} runs, seed {seed}, {time.monotonic() - began:.0f} s")
    print(f"{suite.name}: complete, {done} new runs, {time.monotonic() - began:.0f} s", flush=True)


def require_one_commit(folder: Path) -> None:
    """Record the commit of a final comparison.

    Raises:
        SystemExit: It was begun with another commit, or the working tree has changes.
    """
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    if subprocess.check_output([*git, "status", "--porcelain", "--untracked-files=no"]):
        raise SystemExit("the final comparison needs a committed working tree; commit first")
    record = folder / "lcbench-final" / "commit.txt"
    if record.exists() and (begun := record.read_text().strip()) != commit:
        raise SystemExit(
            f"{record.parent}: the final comparison was begun with commit {begun[:10]}; its tasks "
            "are for one comparison only. Continue with that commit, or give --out a new folder"
        )
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(commit + "\n")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--final", action="store_true", help="the tasks kept for releases")
    parser.add_argument("--suites", nargs="+", help="names; all by default")
    parser.add_argument("--methods", nargs="+", help="names; all by default")
    parser.add_argument("--seeds", type=int, help="fewer or more seeds than the suite's")
    parser.add_argument("--shard", default="0/1", help="this of so many processes")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--store", action="store_true", help="write the repository's results")
    given = parser.parse_args(arguments)
    place, shards = (int(part) for part in given.shard.split("/"))
    if given.final and not given.store:
        require_one_commit(given.out)
    for suite in FINAL_SUITES if given.final else DEVELOPMENT_SUITES:
        if given.suites and suite.name not in given.suites:
            continue
        if given.store:
            print(f"{suite.name}: {store(suite.name, suite.methods, given.out)} runs stored")
            continue
        methods = [m for m in suite.methods if not given.methods or m in given.methods]
        chosen = replace(suite, methods=methods, seeds=given.seeds or suite.seeds)
        measure(chosen, given.out, (place, shards))


if __name__ == "__main__":
    main(sys.argv[1:])
