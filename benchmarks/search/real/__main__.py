"""Searches by real training: the confirmed winner of each method on the held-out test set.

    python -m benchmarks.search.real search [--checkout today=FOLDER] [--seeds 3] [--shard 0/2]
    python -m benchmarks.search.real evaluate
    python -m benchmarks.search.real table
    python -m benchmarks.search.real store
    python -m benchmarks.search.real default [--checkout today=FOLDER]

Methods: `ours`, the default search of this checkout; `today`, the search of an earlier checkout
(`git worktree add FOLDER f829f3e`); `optuna`, plain Optuna 5 with the same space and trainer. Each
has the epochs of 20 full trainings, those of the default included, and one thread. `evaluate`
confirms the best three of each search against the default and opens the test set. `default` trains
the default of two checkouts. Results are kept in `--folder`, and the next run continues there;
`store` adds them to the repository's results. `--renew` replaces searches of `ours` that another
revision ran.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.search.real.evaluation import (
    TEST_SEEDS,
    Evaluation,
    Result,
    Row,
    interval,
    mean_by_seed,
    sentence,
)
from benchmarks.search.real.requests import ROOT, JsonLines, keep_search, keep_trainings, revision
from orchestrator.objective import Objective

RESULTS = Path(__file__).parents[1] / "results" / "real"
"""Folder of the repository's results."""
FULL = 9
"""Epochs of a full training."""
TRAININGS = 20
"""Full trainings of a search."""
MAX_COST = 2.0
"""Bound on the FLOPs of all candidates, in those of the default: as the presets have it."""
MAX_TRIALS = 90
"""Limit of trials; the epochs end a search before it."""
ACCURACY = Objective(metric="accuracy", direction="maximize")
DATA_SETS = ("table", "digits", "textures", "glyphs", "shapes")
COLUMNS = (
    "data",
    "method",
    "evaluated searches",
    "winner minus default",
    "best searched minus default",
    "ours minus this: winner",
    "best searched",
    "within 5 points",
    "epochs",
    "CPU s",
)
METHODS: Mapping[str, Mapping[str, Any]] = {
    "ours": {"method": "product", "config": {"sampler": {"name": "auto"}}, "budget": {}},
    "today": {
        "method": "product",
        "config": {"sampler": {"name": "tpe"}, "pruner": {"name": "halving"}},
        "budget": {"minimum": 1, "reduction_factor": 3},
    },
    "optuna": {"method": "optuna", "config": {}, "budget": {}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Folders and files of the benchmark."""

    folder: Path
    checkouts: Mapping[str, Path]
    """Checkout of each method that is not measured in this one."""
    stored: Path | None = None
    """Folder of the repository's results."""
    shard: str = ""
    full: int = FULL
    trainings: int = TRAININGS

    def rows(self, name: str, *key: str) -> JsonLines:
        """Return the kept rows of one kind."""
        return JsonLines(self.folder, name, key, self.shard, self.stored)

    def checkout(self, method: str) -> Path:
        """Return the checkout whose code runs a method."""
        return self.checkouts.get(method, ROOT)

    def data(self, name: str) -> dict[str, Any]:
        """Return space, data and epochs of a data set, as requests name them."""
        from benchmarks.search.data.datasets import prepare  # noqa: PLC0415 - loads the data

        space, spec = prepare(name, self.folder / "data")
        return {"space": space, "data": asdict(spec), "full": self.full}


def searches(bench: Bench) -> JsonLines:
    """Return the kept searches."""
    return bench.rows("searches", "dataset", "method", "seed")


def trainings(bench: Bench) -> JsonLines:
    """Return the kept trainings with other seeds."""
    return bench.rows("trainings", "dataset", "digest", "seed")


def defaults_kept(bench: Bench) -> JsonLines:
    """Return the kept trainings of defaults."""
    return bench.rows("defaults", "dataset", "checkout", "seed")


def evaluation(bench: Bench, *, train: bool = True) -> Evaluation:
    """Return the evaluation of searches, which trains what is missing or nothing."""
    kept = trainings(bench)

    def run(dataset: str, missing: Sequence[tuple[Row, int]]) -> None:
        runs = [(trial["candidate"], seed) for trial, seed in missing]
        keep_trainings(kept, {"dataset": dataset}, bench.data(dataset), runs)

    return Evaluation(kept, ACCURACY, run if train else None)


def table(bench: Bench) -> Iterator[str]:
    """Yield the table in Markdown, then a sentence a search."""
    done, judge = searches(bench).rows, evaluation(bench, train=False)
    results = {key: judge.result(search) for key, search in done.items()}
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for dataset in DATA_SETS:
        for method in METHODS:
            keys = [key for key in sorted(done) if key[:2] == (dataset, method)]
            if keys:
                found = [done[key] for key in keys]
                near = [sum(count) for count in zip(*map(judge.sane, found), strict=True)]
                confirmed = [result for key in keys if (result := results[key])]
                cells = [
                    *(dataset, method, f"{len(confirmed)} of {len(found)}"),
                    *gain_cells(judge, confirmed, results),
                    f"{near[0]} of {near[1]}",
                    *(f"{statistics.mean(row[n] for row in found):.0f}" for n in ("used", "cpu_s")),
                ]
                yield f"| {' | '.join(cells)} |"
    yield ""
    for (dataset, method, seed), result in sorted(results.items()):
        if result:
            yield f"- {dataset}, {method}, seed {seed}: {sentence(judge, result)}"


def gain_cells(
    judge: Evaluation, confirmed: Sequence[Result], results: Mapping[Any, Result | None]
) -> Iterator[str]:
    """Yield the gains over the default, and those of `ours` over this method's winner."""
    for part in ("winner", "alternative"):
        gains = [
            judge.gain(one.search["dataset"], getattr(one, part), one.search["trials"][0])
            for one in confirmed
        ]
        yield interval(mean_by_seed(gains))
    for part in ("winner", "alternative"):
        ahead = []
        for one in confirmed:
            dataset = one.search["dataset"]
            ours = results.get((dataset, "ours", one.search["seed"]))
            if ours is not None and ours is not one:
                ahead.append(judge.gain(dataset, getattr(ours, part), getattr(one, part)))
        yield interval(mean_by_seed(ahead))


def share(bench: Bench, options: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Yield the searches of this shard: the first seed of all data sets, then the next."""
    every = [
        (dataset, method, seed)
        for seed in range(options.seeds)
        for dataset in options.data
        for method in options.methods
    ]
    index, count = map(int, (bench.shard or "0/1").split("/"))
    yield from every[index::count]


def search(bench: Bench, options: argparse.Namespace) -> None:
    """Search what is missing."""
    kept = searches(bench)
    for dataset, method, seed in share(bench, options):
        request = {
            "epochs": bench.trainings * bench.full,
            "trials": MAX_TRIALS,
            "max_cost": MAX_COST,
            "objectives": [{"metric": f"val_{ACCURACY.metric}", "direction": "maximize"}],
            **METHODS[method],
            **bench.data(dataset),
        }
        row = {"dataset": dataset, "method": method, "seed": seed}
        renew = options.renew and method == "ours"
        keep_search(kept, row, request, bench.checkout(method), renew=renew)


def evaluate(bench: Bench, options: argparse.Namespace) -> None:
    """Confirm and evaluate the kept searches."""
    found, judge = searches(bench).rows, evaluation(bench)
    for key in share(bench, options):
        if key in found:
            result = judge.result(found[key])
            print(*key, result and sentence(judge, result), flush=True)


def defaults(bench: Bench, options: argparse.Namespace) -> Iterator[str]:
    """Train the default of this checkout and of `today` with five seeds; yields a table."""
    kept = defaults_kept(bench)
    yield "| data | checkout | validation | test | diverged |\n|---|---|---|---|---|"
    for dataset in options.data:
        for name in ("today", "ours"):
            checkout = bench.checkout(name)
            commit = revision(checkout)
            row = {"dataset": dataset, "checkout": commit}
            runs = [(None, seed) for seed in TEST_SEEDS if (*row.values(), seed) not in kept.rows]
            keep_trainings(kept, row, bench.data(dataset), runs, checkout)
            rows = [kept.rows[dataset, commit, seed] for seed in TEST_SEEDS]
            yield f"| {dataset} | {name} ({commit}) | {' | '.join(default_cells(rows))} |"


def store(bench: Bench, _: argparse.Namespace) -> None:
    """Write all rows into the repository's results."""
    for rows in (searches(bench), trainings(bench), defaults_kept(bench)):
        rows.store()


def default_cells(rows: Sequence[Row]) -> Iterator[str]:
    """Yield mean and standard deviation on both splits, then how many trainings diverged."""
    trained = [row for row in rows if row["curves"]]
    val, test = (f"{split}_{ACCURACY.metric}" for split in ("val", "test"))
    columns = (
        [100 * row["curves"][val][-1] for row in trained],
        [100 * row["test"][test] for row in trained],
    )
    for column in columns:
        yield f"{statistics.mean(column):.2f} ± {statistics.stdev(column):.2f}"
    yield str(len(rows) - len(trained))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, or print the table of what is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=("search", "evaluate", "table", "default", "store"))
    parser.add_argument("--folder", type=Path, default=Path("results/search-real"))
    parser.add_argument("--checkout", action="append", default=[], metavar="METHOD=FOLDER")
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=DATA_SETS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=tuple(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=int, default=TRAININGS)
    parser.add_argument("--full", type=int, default=FULL)
    parser.add_argument("--renew", action="store_true")
    parser.add_argument("--shard", default="", metavar="INDEX/COUNT")
    options = parser.parse_args(arguments)
    checkouts = {
        name: Path(folder).resolve()
        for name, _, folder in (each.partition("=") for each in options.checkout)
    }
    bench = Bench(
        folder=options.folder,
        stored=RESULTS,
        checkouts=checkouts,
        shard=options.shard,
        full=options.full,
        trainings=options.trainings,
    )
    if options.command in {"table", "default"}:
        for line in table(bench) if options.command == "table" else defaults(bench, options):
            print(line, flush=True)
    else:
        {"search": search, "evaluate": evaluate, "store": store}[options.command](bench, options)


if __name__ == "__main__":
    main()
