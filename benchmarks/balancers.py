"""What a balancer costs: the time of a training step, relative to fixed weights.

    .venv/bin/python benchmarks/balancers.py [--steps 30] [--blocks 9]

The default network of `hybrid` on batches of 64 images of 28 by 28, three loss terms, one thread.
Every block times all balancers one after the other, in turning order; the ratio to fixed weights
is taken within a block, and its median, smallest and largest over the blocks are printed.
"""

import argparse
import statistics
import time
from typing import get_args

import torch

from search_spaces import losses
from search_spaces.catalog import load
from search_spaces.loss_terms import BalancerName, LossTerm, LossWeights
from search_spaces.model_output import Batch
from search_spaces.recipe import Recipe
from search_spaces.task import Task
from workers.training.optimization import Optimization

TASK = Task(inputs={"image": (1, 28, 28)}, num_classes=10)
TERMS = {
    "cross_entropy": LossTerm(),
    "auxiliary": LossTerm(weight=0.5),
    "supervised_contrastive": LossTerm(weight=0.5),
}


class Steps:
    """A network in training under one balancer."""

    def __init__(self, balancer: BalancerName) -> None:
        torch.manual_seed(0)
        self.network = load("hybrid").default().architecture.build(TASK, auxiliary=True)
        self.network.to(memory_format=torch.channels_last)
        self.loss = losses.build(LossWeights(main="cross_entropy", terms=TERMS, balancer=balancer))
        self.optimization = Optimization([self.network, self.loss], Recipe(), 10_000)
        self.batch = Batch(
            inputs={"image": torch.randn(64, 1, 28, 28)}, targets_B=torch.arange(64) % 10
        )

    def time(self, steps: int) -> float:
        """Seconds a step."""
        began = time.perf_counter()
        for number in range(steps):
            value = self.loss(self.network(self.batch.inputs), self.batch)
            self.loss.backward(value, self.optimization.parameters)
            self.optimization.step(number)
        self.loss.end_epoch()
        return (time.perf_counter() - began) / steps


def main() -> None:
    """Prints one line a balancer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--blocks", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = list(get_args(BalancerName))
    runs = {name: Steps(name) for name in names}
    for run in runs.values():
        run.time(3)
    relative: dict[str, list[float]] = {name: [] for name in names}
    for block in range(options.blocks):
        order = names[block % len(names) :] + names[: block % len(names)]
        seconds = {name: runs[name].time(options.steps) for name in order}
        for name in names:
            relative[name].append(seconds[name] / seconds["fixed"])
        print(f"block {block}: fixed {1000 * seconds['fixed']:.1f} ms a step", flush=True)
    print("| balancer | step time, fixed = 1 | range |\n|---|---|---|")
    for name, ratios in relative.items():
        low, high = min(ratios), max(ratios)
        print(f"| {name} | {statistics.median(ratios):.2f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main()
