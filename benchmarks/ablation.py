"""What hybrids and gates are worth at equal FLOPs: one recipe, several seeds, Fashion-MNIST.

    .venv/bin/python benchmarks/ablation.py [--epochs 5] [--seeds 3] [--runs ablation/runs.jsonl]

10,000 training and 5,000 validation images, one thread. Every finished run is a line of the file,
and is not trained again while network, recipe and code of this benchmark ask for the same; so a
run that was cut off goes on where it was. Prints a table in Markdown.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainings import FASHION, Trainings

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Block,
    Classify,
    Concatenate,
    ConvolutionStem,
    Gate,
    Parallel,
    PatchStem,
    Residual,
    Stage,
)
from search_spaces.candidate import Candidate
from search_spaces.cost import cost
from search_spaces.recipe import Recipe
from search_spaces.task import Task

TASK = Task(inputs={"image": (1, 28, 28)}, num_classes=10)
RECIPE = Recipe(optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2)
"""What the space `transformer` tries first; no network here was tuned to it."""
TOLERANCE = 0.05
"""By how much, relative to the smallest, FLOPs may differ between networks."""

CONVOLUTION, ATTENTION = Residual(), Attention(heads=4)


def network(stem: Block, *stages: Stage, initialisation: str = "he") -> Architecture:
    return Architecture(
        streams={"image": Stream(stem=stem, stages=stages)},
        fusion=Concatenate(),
        head=Classify(),
        initialisation=initialisation,
    )


def halving(width: int, last: Stage) -> Architecture:
    """A stem and a convolution stage that halve the image each, then a stage of 7 by 7 places."""
    first = Stage(width=width, depth=1, reduction="stride", block=CONVOLUTION)
    return network(ConvolutionStem(width=16, reduction="stride"), first, last)


def at_seven(width: int, depth: int, block: Block) -> Stage:
    return Stage(width=width, depth=depth, reduction="none", block=block)


def side_by_side(block: Block) -> Architecture:
    """The same two branches for all, mixed as the block says."""
    return halving(30, at_seven(36, 1, block))


BRANCHES = {"first": CONVOLUTION, "second": ATTENTION}
GATED = {"convolution": CONVOLUTION, "attention": ATTENTION}
NETWORKS: dict[str, Architecture] = {
    "pure convolution": halving(24, at_seven(36, 2, CONVOLUTION)),
    "pure Transformer": network(
        PatchStem(width=48, patch=4),
        Stage(width=48, depth=3, reduction="none", normalisation="layer", block=ATTENTION),
        initialisation="truncated_normal",
    ),
    "hybrid in sequence": halving(24, at_seven(48, 2, ATTENTION)),
    "hybrid, sum": side_by_side(Parallel(**BRANCHES, mix="sum")),
    "hybrid, concatenation": side_by_side(Parallel(**BRANCHES, mix="concatenate")),
    "hybrid, gate by channel": side_by_side(Gate(**GATED)),
    "hybrid, gate for the map": side_by_side(Gate(**GATED, detail="scalar")),
    "hybrid, gate by place": side_by_side(Gate(**GATED, detail="token")),
    "hybrid, hard gate by channel": side_by_side(Gate(**GATED, hard=True)),
}


def row(name: str, architecture: Architecture, runs: Sequence[Mapping[str, float]]) -> str:
    counted = cost(architecture, TASK)
    accuracy = [100 * run["val_accuracy"] for run in runs]
    loss, epoch_s = ([run[metric] for run in runs] for metric in ("val_loss", "epoch_s"))
    spread = statistics.stdev(accuracy) if len(runs) > 1 else 0.0
    cells = [
        name,
        f"`{architecture.describe()}`",
        f"{counted.parameters / 1e3:.1f}",
        f"{counted.flops / 1e6:.2f}",
        f"{statistics.mean(accuracy):.2f} ± {spread:.2f}",
        f"{min(accuracy):.2f} to {max(accuracy):.2f}",
        f"{statistics.mean(loss):.3f}",
        f"{statistics.median(epoch_s):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = """\
| network | form | parameters, 10^3 | MFLOPs | accuracy, % | range | loss | CPU s an epoch |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Trains what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("ablation/runs.jsonl"))
    options = parser.parse_args()
    flops = [cost(architecture, TASK).flops for architecture in NETWORKS.values()]
    if max(flops) > (1 + TOLERANCE) * min(flops):
        parser.error(f"FLOPs differ by more than {TOLERANCE:.0%}: {flops}")
    trainings = Trainings(options.runs, FASHION)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in NETWORKS}
    for name, architecture in NETWORKS.items():
        candidate = Candidate(
            architecture=architecture, recipe=RECIPE, space_name="ablation", space_version="1"
        )
        for seed in range(options.seeds):
            rows[name].append(trainings.run(candidate, seed, options.epochs)[-1])
            print(f"seed {seed}, {name}: {rows[name][-1]['val_accuracy']:.4f}", flush=True)
    print(HEAD)
    for name, architecture in NETWORKS.items():
        print(row(name, architecture, rows[name]))


if __name__ == "__main__":
    main()
