"""Tables of stored runs, as markdown.

    python -m benchmarks.search.compare [--final] [--out results/search] [--reference today]

Reads measurements in progress, else the repository's results.

Regret: what the incumbent lacks to the best known, as a share of what the median uniform sample
lacks; geometric mean. Time to goal: compute until the incumbent is among the best 1 % of uniform
samples (`macro`: the best 20 networks), in full trainings of median cost; not reached counts as
twice the horizon; geometric mean. Ratios: the reference's / the method's of the same table and
seed, so above 1 the method is better; 95 % bootstrap over tables, then seeds.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.search.bootstrap import compare, log_regret, log_time, time_to_goal, value_at
from benchmarks.search.methods import OURS
from benchmarks.search.runs import Run
from benchmarks.search.storage import OUT, in_progress, stored
from benchmarks.search.suites import DEVELOPMENT_SUITES, FINAL_SUITES, Suite

MARKS = (10, 20, 40, 80)


def table_of(suite: Suite, runs: dict[str, list[Run]]) -> str:
    """Return the comparison of all methods, best first."""
    marks = [mark for mark in MARKS if mark <= suite.units]
    head = [
        "method",
        "runs",
        *(f"regret @{mark}" for mark in marks),
        "time to goal",
        "reached",
        f"times faster than {suite.reference}",
        "worst table",
        f"regret ratio @{marks[-1]}",
        "trials",
    ]
    reference = runs.get(suite.reference, [])
    rows = [
        _row(method, found, reference, marks)
        for method, found in sorted(runs.items(), key=lambda item: _mean_time(item[1]))
    ]
    return markdown(head, rows)


def _row(method: str, runs: list[Run], reference: list[Run], marks: list[int]) -> list[str]:
    faster, by_table = compare(runs, reference, log_time)
    regret, _ = compare(runs, reference, partial(log_regret, units=marks[-1]))
    worst = min(by_table.values(), key=lambda interval: interval.high, default=None)
    return [
        method,
        str(len(runs)),
        *(f"{np.exp(np.mean([log_regret(r, mark) for r in runs])):.3f}" for mark in marks),
        f"{np.exp(_mean_time(runs)):.1f}",
        f"{np.mean([time_to_goal(r) is not None for r in runs]):.2f}",
        str(faster),
        "" if worst is None else str(worst),
        str(regret),
        f"{np.mean([r.trials for r in runs]):.0f}",
    ]


def by_table(suite: Suite, runs: dict[str, list[Run]]) -> str:
    """Return how many times faster than the reference each of our methods is, on each table."""
    reference = runs.get(suite.reference, [])
    ratios = {
        method: compare(found, reference, log_time)[1]
        for method, found in runs.items()
        if method in OURS
    }
    tables = sorted({table for found in ratios.values() for table in found})
    rows = [[table, *(str(found.get(table, "")) for found in ratios.values())] for table in tables]
    return markdown([f"times faster than {suite.reference}", *ratios], rows)


def winners(runs: dict[str, list[Run]]) -> str:
    """Return what each search claims about its winner, and what is true, in points."""
    head = [
        "method",
        "claimed gain over the default",
        "true gain",
        "worse by more than 0.2",
        "proposals within 5 points of the default",
    ]
    rows = []
    for method, found in runs.items():
        claims = [100 * (r.path[-1][2] - r.reference) for r in found if r.path and r.reference]
        gains = np.array([100 * (value_at(r, r.units) - r.default) for r in found])
        claimed = f"{np.mean(claims):+.2f}" if claims else ""
        sane = np.mean([r.sane for r in found])
        rows.append(
            [method, claimed, f"{gains.mean():+.2f}", f"{(gains < -0.2).mean():.2f}", f"{sane:.2f}"]
        )
    return markdown(head, rows)


def _mean_time(runs: Sequence[Run]) -> float:
    return float(np.mean([log_time(run) for run in runs]))


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--final", action="store_true", help="the tasks kept for releases")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--reference", help="method to compare with; the suite's by default")
    given = parser.parse_args(arguments)
    for suite in FINAL_SUITES if given.final else DEVELOPMENT_SUITES:
        chosen = replace(suite, reference=given.reference or suite.reference)
        every = {
            method: in_progress(given.out, suite.name, method) or stored(suite.name, method)
            for method in suite.methods
        }
        if runs := {method: found for method, found in every.items() if found}:
            print(f"\n### {suite.name}: W = {suite.workers}, {suite.units:g} full trainings\n")
            print(table_of(chosen, runs))
            print("\n" + winners(runs))
            if runs.keys() & OURS.keys():
                print("\n" + by_table(chosen, runs))


if __name__ == "__main__":
    main(sys.argv[1:])
