"""Ablation of our search in simulated time: each ingredient off in turn; resumable.

    python -m benchmarks.search.ablation [--suites lcbench macro recorded recorded-median-default]
        [--only NAME ...] [--seeds 3] [--shard 0/2] [--out results/search-ablation] [--table]

An ingredient is taken out here, by another constant or function in its place, so that the product
has no option for it. Ratios: without / with the ingredient, of the same table and seed, so above 1
the ingredient pays; 95 % bootstrap over tables, then seeds.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.search.bootstrap import compare, log_regret, log_time, time_to_goal, value_at
from benchmarks.search.compare import markdown
from benchmarks.search.measure import missing
from benchmarks.search.methods import OURS
from benchmarks.search.ours import run_study
from benchmarks.search.runs import Run
from benchmarks.search.storage import append, in_progress
from benchmarks.search.suites import DEVELOPMENT_SUITES, Suite
from benchmarks.search.tables.table import Table
from orchestrator.sampling import gaussian_process, pool

OUT = Path("results/search-ablation")
BASE = "ours"
NEVER = 10**9
SAMPLING = "orchestrator.sampling"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One ingredient taken out."""

    patches: Mapping[str, Any] = field(default_factory=dict)
    """What replaces a name, by its path below `orchestrator.sampling`."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Keys of study.yaml."""
    first_rung: float | None = None
    """First rung as a share of the budget; None for the pruner's choice."""

    def keys_for(self, table: Table) -> dict[str, Any]:
        """Return the keys of study.yaml for a table."""
        keys = {**OURS[BASE], **self.keys}
        if self.first_rung is not None:
            first = max(table.fidelities[0], round(self.first_rung * table.top))
            keys["budget"] = {"minimum": first, "maximum": table.top}
        return keys

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Take the ingredient out within a context."""
        with ExitStack() as stack:
            for target, value in self.patches.items():
                stack.enter_context(patch(f"{SAMPLING}.{target}", value))
            yield


class _RbfKernel(gaussian_process._Kernel):  # noqa: SLF001 - replaced here
    """The RBF half alone, with the variance of both."""

    def covariance(self, _products: Any, distances: Any) -> Any:
        return self.amplitude * np.exp(np.maximum(distances, 0) / (-2 * self.length))


def _equal_cost(_model: Any, points: Any) -> Any:
    """Return 0 for every point."""
    return np.zeros(len(points))


def _finals_alone(_curves: Any, finals: Any) -> tuple[Any, Any]:
    """Return the scores of complete trials only."""
    return finals, np.zeros(len(finals))


def _mixed(unranked: pool.Pool, count: int, parents: Any, _turn: int) -> None:
    """Add samples of random kinds."""
    unranked.add_broad(count, parents)


def _shares(neighbors: float, prior: float) -> Ablation:
    return Ablation(patches={"pool.NEIGHBOR_SHARE": neighbors, "pool.PRIOR_SHARE": prior})


ABLATIONS: dict[str, Ablation] = {
    "model": Ablation(patches={"proposal_model.MIN_RESULTS": NEVER}),
    "local climb": Ablation(patches={"auto_sampler.NUM_CLIMBS": 0}),
    "division by cost": Ablation(
        patches={"proposal_model.ProposalModel._log_training_cost": _equal_cost}
    ),
    "linear half of the kernel": Ablation(patches={"gaussian_process._Kernel": _RbfKernel}),
    "neighbors": _shares(0.0, 0.5),
    "prior samples": _shares(0.5, 0.0),
    "uniform samples": _shares(0.5, 0.51),
    "structural changes": Ablation(
        patches={
            "pool.BROAD": replace(pool.BROAD, structural_share=0.0),
            "pool.LOCAL": replace(pool.LOCAL, structural_share=0.0),
        }
    ),
    "changes of 8 decisions": Ablation(
        patches={"pool.BROAD": replace(pool.BROAD, changes=(1, 2, 4))}
    ),
    "several parents": Ablation(patches={"auto_sampler.NUM_PARENTS": 1}),
    "first designs": Ablation(patches={"first_designs.UNLIMITED": 0}),
    "8 results before the model": Ablation(patches={"proposal_model.MIN_RESULTS": 4}),
    "turns before the model": Ablation(patches={"pool.Pool.add_in_turn": _mixed}),
    "low fidelities in the model": Ablation(
        patches={"proposal_model.predicted_ends": _finals_alone}
    ),
    "pending trials": Ablation(
        patches={"gaussian_process.GaussianProcess.await_results": lambda *_: None}
    ),
    "clipped scores": Ablation(patches={"proposal_model._CLIP": NEVER}),
    "promotion of paused trials": Ablation(
        keys={"pruner": {"name": "halving", "type": "stopping"}}
    ),
    "halving": Ablation(keys={"pruner": {"name": "none"}}),
    "first rung by the curves, but a ninth": Ablation(first_rung=1 / 9),
    "first rung by the curves, but a third": Ablation(first_rung=1 / 3),
    "audit": Ablation(patches={"halving.is_audited": lambda *_: False}),
}
"""Ingredients by name; a run without one is stored under `no NAME`."""


def run_without(name: str, table: Table, suite: Suite, seed: int) -> Run:
    """Search a table without an ingredient; `ours` is the search as it is."""
    ablation = Ablation() if name == BASE else ABLATIONS[name.removeprefix("no ")]
    with ablation.applied():
        return run_study(
            table,
            method=name,
            workers=suite.workers,
            units=suite.units,
            seed=seed,
            keys=ablation.keys_for(table),
        )


def row(name: str, suite: Suite, runs: Sequence[Run], base: Sequence[Run]) -> list[str]:
    """Return the row of one ingredient."""
    # `compare` gives reference / method; here the reference is the whole search.
    slower, _ = compare(base, runs, log_time)
    regret, _ = compare(base, runs, partial(log_regret, units=suite.units))
    half, _ = compare(base, runs, partial(log_regret, units=suite.units / 2))
    gain = np.mean([100 * (value_at(run, run.units) - run.default) for run in runs])
    return [
        name,
        str(len(runs)),
        str(slower),
        str(half),
        str(regret),
        f"{np.mean([time_to_goal(run) is not None for run in runs]):.2f}",
        f"{gain:+.2f}",
        f"{np.mean([run.sane for run in runs]):.2f}",
    ]


def table_of(suite: Suite, folder: Path, names: Sequence[str]) -> str:
    """Return the ablation table of a suite, the ingredient that pays most first."""
    base = in_progress(folder, suite.name, BASE)
    head = ["without", "runs", "time ratio", f"regret ratio @{suite.units / 2:g}"]
    head += [f"regret ratio @{suite.units:g}", "reached", "gain over the default", "sane"]
    known = {name: in_progress(folder, suite.name, name) for name in (BASE, *names)}
    rows = [row(name, suite, runs, base) for name, runs in known.items() if runs]
    return markdown(head, sorted(rows, key=lambda each: each[2], reverse=True))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--suites", nargs="+", help="names; all by default")
    parser.add_argument("--only", nargs="+", help="ingredients; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shard", default="0/1", help="this of so many processes")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    given = parser.parse_args(arguments)
    place, shards = (int(part) for part in given.shard.split("/"))
    names = [f"no {name}" for name in given.only or ABLATIONS]
    for suite in DEVELOPMENT_SUITES:
        if given.suites and suite.name not in given.suites:
            continue
        chosen = replace(suite, methods=(BASE, *names), seeds=given.seeds)
        if not given.table:
            tables = list(suite.tables())
            for seed, table, name in missing(chosen, tables, given.out, (place, shards)):
                append(given.out, suite.name, run_without(name, table, chosen, seed))
        print(f"\n### {suite.name}\n\n{table_of(chosen, given.out, names)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
