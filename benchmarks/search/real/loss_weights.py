"""What searching the weights of loss terms is worth, alone and with the network.

    python -m benchmarks.search.real.loss_weights search [--seeds 3] [--shard 0/2]
    python -m benchmarks.search.real.loss_weights evaluate
    python -m benchmarks.search.real.loss_weights table

Equal epochs for three searches: `network` decides architecture and recipe with the losses at their
default, `weights` decides terms, weights and balancer of the loss for the default network, `both`
decides everything. The best three of each are confirmed against the default over other seeds and
compared with it on the test set. On `shapes` the loss weighs the class against the angle: the error
of the angle is compared among trials that lose at most one point of accuracy.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.search.data.datasets import prepare
from benchmarks.search.real.evaluation import Evaluation, Row, interval, mean_by_seed, sentence
from benchmarks.search.real.requests import JsonLines, keep_search, keep_trainings
from orchestrator.objective import Objective
from workers.data import DataSpec

HALVES = ("network", "weights", "both")
TRAININGS = 12
"""Full trainings of a search."""
MAX_COST = 2.0
"""Bound on the FLOPs of all candidates, in those of the default."""
MAX_LOSS = 0.01
"""Accuracy that a better angle may cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Data whose loss has weights, and the metric that no weight changes."""

    objective: Objective
    full: int = 9
    """Epochs of a full training."""
    diverged: float = 0.0
    """Value of a training that diverged: that of a constant prediction."""
    guarded: bool = False
    """True if accuracy must not suffer."""

    @property
    def objectives(self) -> list[dict[str, str]]:
        """Objectives of the search, as a study names them."""
        metrics = {f"val_{self.objective.metric}": self.objective.direction}
        if self.guarded:
            metrics = {"val_accuracy": "maximize", **metrics}
        return [{"metric": name, "direction": direction} for name, direction in metrics.items()]


QUESTIONS: Mapping[str, Question] = {
    "shapes": Question(
        objective=Objective(metric="mae", direction="minimize"), diverged=15.0, guarded=True
    ),
    "pendulum": Question(
        objective=Objective(metric="rmse", direction="minimize"), full=27, diverged=1.0
    ),
    "digits": Question(objective=Objective(metric="accuracy", direction="maximize")),
}
"""Data sets by name. Angles are up to 30 degrees either way: a constant errs by 15."""


def data(name: str, folder: Path) -> dict[str, Any]:
    """Return space, data and epochs of a data set, as requests name them."""
    pendulum = name == "pendulum"
    space, spec = (name, DataSpec(source=name)) if pendulum else prepare(name, folder / "data")
    return {"space": space, "data": asdict(spec), "full": QUESTIONS[name].full}


def request_of(name: str, half: str, folder: Path, trainings: int) -> dict[str, Any]:
    """Return the request of a search over one half."""
    question = QUESTIONS[name]
    return {
        "method": "product",
        "config": {"sampler": {"name": "auto"}},
        "budget": {},
        "half": half,
        "epochs": trainings * question.full,
        "trials": 5 * trainings,
        "max_cost": MAX_COST,
        "objectives": question.objectives,
        **data(name, folder),
    }


def admitted(question: Question, search: Row) -> Row:
    """Return the search without trials that pay for the metric with accuracy."""
    if not question.guarded:
        return search
    default, *others = search["trials"]
    least = default["curves"]["val_accuracy"][-1] - MAX_LOSS
    kept = [t for t in others if t["curves"] and t["curves"]["val_accuracy"][-1] >= least]
    return {**search, "trials": [default, *kept]}


def evaluation(name: str, folder: Path, kept: JsonLines, *, train: bool) -> Evaluation:
    """Return the evaluation of a data set's searches."""
    question = QUESTIONS[name]

    def run(dataset: str, missing: Sequence[tuple[Row, int]]) -> None:
        runs = [(trial["candidate"], seed) for trial, seed in missing]
        keep_trainings(kept, {"dataset": dataset}, data(dataset, folder), runs)

    return Evaluation(kept, question.objective, run if train else None, diverged=question.diverged)


def table(searches: JsonLines, kept: JsonLines, folder: Path) -> Iterator[str]:
    """Yield the table in Markdown, then a sentence a search."""
    head = ("data", "metric", "searched", "searches", "winner over default", "best searched")
    yield f"| {' | '.join(head)} | trials | epochs |"
    yield f"|{'---|' * (len(head) + 2)}"
    sentences = []
    for name, question in QUESTIONS.items():
        judge = evaluation(name, folder, kept, train=False)
        unit = "points" if question.objective.direction == "maximize" else "% less"
        for half in HALVES:
            found = [row for key, row in sorted(searches.rows.items()) if key[:2] == (name, half)]
            results = [judge.result(admitted(question, row)) for row in found]
            gains: dict[str, list[list[float]]] = {"winner": [], "alternative": []}
            for result in results:
                if result:
                    default = result.search["trials"][0]
                    for part, each in gains.items():
                        each.append(judge.gain(name, getattr(result, part), default))
                    seed = result.search["seed"]
                    sentences.append(f"- {name}, {half}, seed {seed}: {sentence(judge, result)}")
            if found:
                cells = [
                    *(name, f"{question.objective.metric}, {unit}", half, str(len(found))),
                    *(interval(mean_by_seed(each)) for each in gains.values()),
                    f"{statistics.mean(len(row['trials']) for row in found):.0f}",
                    f"{statistics.mean(row['used'] for row in found):.0f}",
                ]
                yield f"| {' | '.join(cells)} |"
    yield ""
    yield from sentences


def main(arguments: Sequence[str] | None = None) -> None:
    """Search or evaluate what is missing, or print the table of what is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=("search", "evaluate", "table"))
    parser.add_argument("--folder", type=Path, default=Path("results/loss-weights"))
    parser.add_argument("--data", nargs="+", choices=QUESTIONS, default=tuple(QUESTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=int, default=TRAININGS)
    parser.add_argument("--shard", default="", metavar="INDEX/COUNT")
    options = parser.parse_args(arguments)
    folder = options.folder
    searches = JsonLines(folder, "searches", ("dataset", "half", "seed"), options.shard)
    kept = JsonLines(folder, "trainings", ("dataset", "digest", "seed"), options.shard)
    if options.command == "table":
        sys.stdout.writelines(f"{line}\n" for line in table(searches, kept, folder))
        return
    every = [(d, h, s) for s in range(options.seeds) for d in options.data for h in HALVES]
    index, count = map(int, (options.shard or "0/1").split("/"))
    for name, half, seed in every[index::count]:
        row = {"dataset": name, "half": half, "seed": seed}
        if options.command == "search":
            keep_search(searches, row, request_of(name, half, folder, options.trainings))
        elif found := searches.rows.get((name, half, seed)):
            judge = evaluation(name, folder, kept, train=True)
            result = judge.result(admitted(QUESTIONS[name], found))
            print(*row.values(), result and sentence(judge, result), flush=True)


if __name__ == "__main__":
    main()
