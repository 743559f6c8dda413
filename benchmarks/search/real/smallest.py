"""The smallest network that is as good as the default, found in 15 minutes on Fashion-MNIST.

    python -m benchmarks.search.real.smallest [--minutes 15] [--seeds 5] [--home results/smallest]

A study of the preset `fashion` maximizes accuracy and minimizes parameters, on an otherwise idle
machine. Then the complete trials within half a point of the default are trained with other seeds,
the smallest first, until one is within half a point of the default's mean on validation. That one
is compared with the default on the test set. A study that is finished is not run again, and
trainings are kept.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.search.real.evaluation import interval
from benchmarks.search.real.requests import JsonLines, keep_trainings
from orchestrator import FrozenTrial, Study, create_study

MARGIN = 0.005
"""Accuracy that the smaller network may lose: half a point."""
FIRST_SEED = 3_000
ACCURACY, SIZE = "val_accuracy", "parameters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrainings:
    """Trainings of a study's candidates with other seeds, which are kept."""

    kept: JsonLines
    study: Study
    seeds: range

    def accuracies(self, trial: FrozenTrial, split: str) -> list[float]:
        """Return the accuracy of a trial's candidate by seed, after training what is missing."""
        config = self.study.config
        request = {
            "space": config.space_base,
            "data": asdict(config.data),
            "full": config.budget.maximum,
        }
        missing = [seed for seed in self.seeds if (trial.number, seed) not in self.kept.rows]
        runs = [(dict(trial.document), seed) for seed in missing]
        keep_trainings(self.kept, {"number": trial.number}, request, runs)
        rows = [self.kept.rows[trial.number, seed] for seed in self.seeds]
        if split == "test":
            return [row["test"].get("test_accuracy", 0.0) for row in rows]
        return [row["curves"].get(ACCURACY, [0.0])[-1] for row in rows]


def candidates(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return complete trials smaller than the default and about as accurate, smallest first."""
    default = trials[0]
    least = (default.values or {})[ACCURACY] - MARGIN
    good = [t for t in trials[1:] if t.values and t.values[ACCURACY] >= least]
    smaller = [t for t in good if t.cost[SIZE] < default.cost[SIZE]]
    return sorted(smaller, key=lambda t: (t.cost[SIZE], t.number))


def report(study: Study, retrainings: Retrainings) -> Iterator[str]:
    """Yield the front of the study, then the smallest network that is as good as the default."""
    trials = study.trials
    default = trials[0]
    if default.values is None:
        yield "the default is not trained to the end: search for longer"
        return
    for trial in sorted(study.best_trials, key=lambda t: t.cost[SIZE]):
        values = trial.values or {}
        share = trial.cost[SIZE] / default.cost[SIZE]
        yield f"front: trial {trial.number}, {values[ACCURACY]:.4f}, {share:.3f} of the parameters"
    for trial in candidates(trials):
        means = [statistics.mean(retrainings.accuracies(t, "val")) for t in (trial, default)]
        if means[0] < means[1] - MARGIN:
            yield f"trial {trial.number} is not as good with other seeds"
            continue
        pairs = zip(
            retrainings.accuracies(trial, "test"),
            retrainings.accuracies(default, "test"),
            strict=True,
        )
        gain = interval([100 * (one - two) for one, two in pairs])
        yield (
            f"trial {trial.number} has {trial.cost[SIZE] / default.cost[SIZE]:.3f} of the "
            f"default's parameters and {trial.cost['flops'] / default.cost['flops']:.3f} of its "
            f"FLOPs; on the test set {gain} points over {len(retrainings.seeds)} seeds"
        )
        return
    yield "no smaller network is within half a point of the default"


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--home", type=Path, default=Path("results/smallest"))
    options = parser.parse_args(arguments)
    study = create_study(
        "fashion",
        home=options.home,
        name=f"smallest-{options.sampler}",
        objectives=[
            {"metric": ACCURACY, "direction": "maximize"},
            {"metric": SIZE, "direction": "minimize"},
        ],
        sampler={"name": options.sampler},
        confirm={},  # the retraining of this benchmark takes its place
        stop={"hours": options.minutes / 60},
    )
    study.run()
    kept = JsonLines(options.home, study.name, ("number", "seed"))
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    for line in report(study, Retrainings(kept=kept, study=study, seeds=seeds)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
