"""What weighing loss terms, and adapting accumulation, is worth on Fashion-MNIST.

    .venv/bin/python benchmarks/losses.py [--epochs 5] [--seeds 3] [--trials 15] [--part losses]

One gated hybrid, one recipe, 10,000 training and 5,000 validation images, one thread. `losses`
compares cross-entropy alone with a mixture of three terms under every balancer, and with the
weights and balancer that a search of so many trials found (seeded apart from the rest; the search
sees the same validation part that all are compared on). `accumulation` compares fixed numbers of
batches a step with numbers that follow the gradient's noise. Each finished training is kept, so
that a run that was cut off goes on where it was. Prints a table in Markdown.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import optuna
from trainings import FASHION, Trainings

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Classify,
    Concatenate,
    ConvolutionStem,
    Gate,
    Residual,
    Stage,
)
from search_spaces.candidate import Candidate
from search_spaces.loss_terms import BalancerName, LossTerm, LossWeights
from search_spaces.losses import loss_domain
from search_spaces.recipe import Recipe

HYBRID = Architecture(
    streams={
        "image": Stream(
            stem=ConvolutionStem(width=16, reduction="stride"),
            stages=(
                Stage(width=30, depth=1, reduction="stride", block=Residual()),
                Stage(
                    width=36,
                    depth=1,
                    reduction="none",
                    block=Gate(convolution=Residual(), attention=Attention(heads=4)),
                ),
            ),
        )
    },
    fusion=Concatenate(),
    head=Classify(),
)
RECIPE = Recipe(optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2)
ALONE = LossWeights(terms={"cross_entropy": LossTerm()})
SIDE = ("auxiliary", "supervised_contrastive")
SEARCH_SEED = 1000
"""Seed of the trainings that the search compares: none that the table shows."""


def candidate(losses: LossWeights = ALONE, recipe: Recipe = RECIPE) -> Candidate:
    return Candidate(
        architecture=HYBRID, recipe=recipe, losses=losses, space_name="losses", space_version="1"
    )


def mixture(balancer: BalancerName) -> LossWeights:
    terms = {"cross_entropy": LossTerm(), **{name: LossTerm(weight=0.5) for name in SIDE}}
    return LossWeights(main="cross_entropy", terms=terms, balancer=balancer)


def searched(trainings: Trainings, epochs: int, trials: int) -> LossWeights:
    """The losses that a search over terms, weights and balancers found best."""
    balancers = tuple(get_args(BalancerName))
    domain = loss_domain(main=("cross_entropy",), side=SIDE, balancers=balancers)
    found: dict[int, LossWeights] = {}

    def reached(trial: optuna.Trial) -> float:
        found[trial.number] = domain.resolve(trial, "losses")
        last = trainings.run(candidate(found[trial.number]), SEARCH_SEED, epochs)[-1]
        print(f"searched {trial.number}: {last['val_accuracy']:.4f}", flush=True)
        return last["val_accuracy"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5)
    )
    study.optimize(reached, n_trials=trials)
    return found[study.best_trial.number]


def losses(trainings: Trainings, epochs: int, trials: int) -> dict[str, Candidate]:
    smooth = {"cross_entropy": LossTerm(options={"smoothing": 0.1})}
    arms = {"cross-entropy": ALONE, "cross-entropy, smoothed by 0.1": LossWeights(terms=smooth)}
    arms |= {f"three terms, {name}": mixture(name) for name in get_args(BalancerName)}
    best = searched(trainings, epochs, trials)
    parts = ", ".join(f"{name} {share:.2f}" for name, share in best.normalized_weights().items())
    arms[f"searched: {parts}; {best.balancer}"] = best
    return {name: candidate(weights) for name, weights in arms.items()}


def accumulations(*_: object) -> dict[str, Candidate]:
    arms = {f"{count} a step": replace(RECIPE, accumulation=count) for count in (1, 2, 4, 8)}
    arms |= {
        f"1 to 8 a step, by {rule}": replace(RECIPE, accumulation_rule=rule)
        for rule in ("variance", "forecast")
    }
    return {name: candidate(recipe=recipe) for name, recipe in arms.items()}


def row(name: str, runs: Sequence[Sequence[Mapping[str, float]]], noise: Sequence[str] = ()) -> str:
    last = [seen[-1] for seen in runs]
    accuracy = [100 * one["val_accuracy"] for one in last]
    spread = statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0
    cells = [
        name,
        f"{statistics.mean(accuracy):.2f} ± {spread:.2f}",
        f"{min(accuracy):.2f} to {max(accuracy):.2f}",
        f"{statistics.mean(one['val_loss'] for one in last):.3f}",
        f"{statistics.median(one['epoch_s'] for one in last):.1f}",
    ]
    return f"| {' | '.join([*cells, *(_course(runs, metric) for metric in noise)])} |"


def _course(runs: Sequence[Sequence[Mapping[str, float]]], metric: str) -> str:
    """A metric's mean over the runs in the first and the last epoch."""
    ends = [[seen[epoch].get(metric) for seen in runs] for epoch in (0, -1)]
    known = [[value for value in end if value is not None] for end in ends]
    return " → ".join(f"{statistics.mean(end):.1f}" for end in known) if all(known) else "-"


NOISE = ("gradient/variance", "gradient/step_variance", "gradient/batches")
PARTS = {"losses": losses, "accumulation": accumulations}
HEADS = {
    "losses": ["losses", "accuracy, %", "range", "cross-entropy", "CPU s an epoch"],
    "accumulation": [
        *("batches", "accuracy, %", "range", "cross-entropy", "CPU s an epoch"),
        *("variance of a batch, first → last epoch", "of a step", "batches a step"),
    ],
}


def main() -> None:
    """Trains what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=15)
    parser.add_argument("--part", choices=PARTS, default="losses")
    parser.add_argument("--runs", type=Path, default=Path("losses/runs.jsonl"))
    options = parser.parse_args()
    trainings = Trainings(options.runs, FASHION)
    arms = PARTS[options.part](trainings, options.epochs, options.trials)
    rows = []
    for name, one in arms.items():
        runs = [trainings.run(one, seed, options.epochs) for seed in range(options.seeds)]
        rows.append(row(name, runs, NOISE if options.part == "accumulation" else ()))
        print(rows[-1], flush=True)
    head = HEADS[options.part]
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
