"""How good the default candidate of `hybrid` is on Fashion-MNIST, and how soon, on one thread.

    .venv/bin/python benchmarks/default_recipe.py [--epochs 6 9] [--seeds 3]

10,000 training and 5,000 validation images; wall time of training with validation, without start.
"""

import argparse
import statistics
import time

from search_spaces.catalog import load as space
from workers.budget import Budget
from workers.data import DataSpec, load
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.trainer import Trainer

FASHION = DataSpec(
    source="idx", path="/usr/share/datasets/fashion-mnist", limit=15_000, validation=5_000
)


def main() -> None:
    """Prints one line a training, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 9])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data, candidate = load(FASHION), space("hybrid").default()
    for epochs in options.epochs:
        reached, took = [], []
        for seed in range(options.seeds):
            job = TrainingJob(
                key=AttemptKey(trial_uid="0" * 32, number=1, fence="none"),
                trial_number=0,
                candidate=candidate.to_dict(),
                data=FASHION,
                budget=Budget(maximum=epochs),
                seed=seed,
            )
            began = time.perf_counter()
            seen = [m for m in Trainer(job, data).run() if isinstance(m, Measurement)]
            took.append(time.perf_counter() - began)
            reached.append(seen[-1].metrics["val_accuracy"])
            print(f"{epochs} epochs, seed {seed}: {reached[-1]:.4f} in {took[-1]:.0f} s")
        print(
            f"{epochs} epochs: median {statistics.median(reached):.4f} "
            f"({min(reached):.4f} to {max(reached):.4f}) in {statistics.median(took):.0f} s"
        )


if __name__ == "__main__":
    main()
