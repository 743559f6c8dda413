"""How good the default candidate of `hybrid` is on Fashion-MNIST, and how soon, on one thread.

    .venv/bin/python benchmarks/default_recipe.py [--epochs 6 9] [--seeds 3]

10,000 training and 5,000 validation images; wall time of training with validation, without start.
"""

import argparse
import statistics
import time

from trainings import FASHION, trained

from search_spaces.catalog import load as space
from workers.data import load


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
            began = time.perf_counter()
            _, seen = trained(candidate, FASHION, data, seed=seed, epochs=epochs)
            took.append(time.perf_counter() - began)
            reached.append(seen[-1].metrics["val_accuracy"])
            print(f"{epochs} epochs, seed {seed}: {reached[-1]:.4f} in {took[-1]:.0f} s")
        print(
            f"{epochs} epochs: median {statistics.median(reached):.4f} "
            f"({min(reached):.4f} to {max(reached):.4f}) in {statistics.median(took):.0f} s"
        )


if __name__ == "__main__":
    main()
