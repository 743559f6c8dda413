"""What balancers and a law of physics are worth on simulated data with several targets.

    .venv/bin/python benchmarks/pareto.py [--seeds 3] [--results pareto.json] [--figures docs]

One network and recipe for each data set, fixed epochs, equal seeds for all. On `shapes` the class
and the angle are two terms of equal share; each balancer gives a point of accuracy against error of
the angle. On `pendulum` the squared error and the kept energy are; each gives a point of the error
of a step against the drift of energy over 1,000 steps of the learnt model, each fed its own answer.
Then the law is switched on and off, and the drift is drawn over the steps. Trainings that the file
of results knows are not repeated.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from trainings import trained

from search_spaces import svg
from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Both,
    Concatenate,
    ConvolutionStem,
    FeedForward,
    Residual,
    Stage,
    VectorStem,
)
from search_spaces.candidate import Candidate
from search_spaces.loss_weights import BalancerName, LossTerm, LossWeights
from search_spaces.recipe import Recipe
from workers.data import Dataset, DataSpec, load, pendulum
from workers.trainer import Trainer

BALANCERS: tuple[BalancerName, ...] = get_args(BalancerName)
STEPS = 1_000
MARKS = (1, 10, 30, 100, 300, 1_000)
"""After how many steps the drift is kept."""
STARTS = 64
RAN_AWAY = 10.0
"""Change of energy that is as bad as any greater one: no state of the data has more than 1.6."""
RECIPE = Recipe(optimizer="adamw", learning_rate=5e-3, weight_decay=1e-4, batch_size=64)
SHAPES = Architecture(
    streams={
        "image": Stream(
            stem=ConvolutionStem(width=12, reduction="stride"),
            stages=(Stage(width=24, depth=1, block=Residual()),),
        )
    },
    fusion=Concatenate(pooling="flatten"),
    head=Both(),
)
PENDULUM = Architecture(
    streams={
        "vector": Stream(
            stem=VectorStem(width=64),
            stages=(
                Stage(
                    width=64,
                    depth=2,
                    reduction="none",
                    normalisation="layer",
                    block=FeedForward(mlp_ratio=2.0, normalisation="none"),
                ),
            ),
        )
    },
    fusion=Concatenate(),
    head=Both(),
)
Arm = tuple[str, str, str]
"""Data set, side term or none, balancer."""


def arms() -> Iterator[Arm]:
    """All that is compared."""
    yield from (("shapes", "mse", balancer) for balancer in BALANCERS)
    yield from (("pendulum", "pendulum_energy", balancer) for balancer in BALANCERS)
    yield "pendulum", "", "fixed"


def candidate(arm: Arm) -> Candidate:
    """The network and recipe of a data set with the arm's loss, all terms of equal share."""
    source, side, balancer = arm
    main = "cross_entropy" if source == "shapes" else "mse"
    names = [main, side] if side else [main]
    return Candidate(
        architecture=SHAPES if source == "shapes" else PENDULUM,
        recipe=RECIPE,
        losses=LossWeights(
            main=main,
            terms={name: LossTerm() for name in names},
            balancer=next(name for name in BALANCERS if name == balancer),
        ),
        space_name="benchmark",
        space_version="1",
    )


def measured(arm: Arm, dataset: Dataset, seed: int, epochs: int) -> dict[str, Any]:
    """One training's figures."""
    spec = DataSpec(source=arm[0])
    trainer, (*_, last) = trained(candidate(arm), spec, dataset, seed=seed, epochs=epochs)
    found = {name: value for name, value in last.metrics.items() if name.startswith("val_")}
    found |= {"elapsed_s": last.elapsed_s}
    return found | (drift(trainer) if arm[0] == "pendulum" else {})


def drift(trainer: Trainer) -> dict[str, float]:
    """Mean change of energy after so many steps of the learnt model, from states never seen.

    What has run away counts as `RAN_AWAY`.
    """
    start_N2 = pendulum.drawn(STARTS, np.random.default_rng(99))
    before_N = pendulum.energy(start_N2)
    network, units = trainer.network.eval(), trainer.train.units
    state_N2 = torch.tensor(start_N2, dtype=torch.float32)
    found = {}
    for step in range(1, STEPS + 1):
        with torch.inference_mode():
            inputs = {"vector": trainer.normalisation.apply("vector", state_N2)}
            state_N2 = units.values(network(inputs).values_BV)[:, :2]
        if step in MARKS:
            change_N = np.abs(pendulum.energy(state_N2.double().numpy()) - before_N)
            change_N = np.nan_to_num(change_N, nan=RAN_AWAY)
            found[f"drift_{step}"] = float(change_N.clip(0, RAN_AWAY).mean())
    return found


def results(path: Path, seeds: int, epochs: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Figures by arm, a list of one a seed; what is missing is trained and kept at once."""
    known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    datasets = {source: load(DataSpec(source=source)) for source in epochs}
    for seed in range(seeds):
        for arm in arms():
            key = "/".join((*arm, str(seed)))
            if key not in known:
                known[key] = measured(arm, datasets[arm[0]], seed, epochs[arm[0]])
                path.write_text(json.dumps(known, indent=1))
                print(key, {k: f"{v:.4g}" for k, v in known[key].items()}, flush=True)
    return {
        "/".join(arm): [known["/".join((*arm, str(seed)))] for seed in range(seeds)]
        for arm in arms()
    }


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Means and, after them, least and greatest of the seeds, in Markdown."""
    lines = []
    for source, metrics in (
        ("shapes", ("val_accuracy", "val_mae", "elapsed_s")),
        ("pendulum", ("val_rmse", "drift_1", "drift_100", "drift_1000", "elapsed_s")),
    ):
        lines += [f"| {source} | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
        for arm, runs in found.items():
            if arm.startswith(f"{source}/"):
                _, side, balancer = arm.split("/")
                cells = [_cell([run[metric] for run in runs]) for metric in metrics]
                lines.append(f"| {balancer if side else 'law off'} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4g} ({min(values):.4g} to {max(values):.4g})"


WIDTH, HEIGHT, LEFT, TOP, SIDE = 940, 420, 70, 50, 310
COLOURS = ("#2563eb", "#ea580c", "#15803d", "#7c3aed", "#be123c", "#0e7490", "#a16207", "#475569")


def fronts(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A panel for each data set: a small dot a seed, a large one their mean."""
    parts: list[str] = []
    panels = (
        ("shapes", "mse", "val_accuracy", "val_mae", "error of the angle, degrees"),
        ("pendulum", "pendulum_energy", "val_rmse", "drift_1000", "drift of energy, 1,000 steps"),
    )
    for index, (source, side, across, up, title) in enumerate(panels):
        runs = {name: found.get(f"{source}/{side}/{name}", ()) for name in BALANCERS}
        xs = _Axis([run[across] for each in runs.values() for run in each], LEFT + index * 400)
        ys = _Axis([run[up] for each in runs.values() for run in each], TOP + SIDE, up=True)
        parts += xs.drawn(f"{source}: {across}") + ys.drawn(title, beside=xs.start)
        for colour, each in zip(COLOURS, runs.values(), strict=True):
            parts += [svg.dot(xs(r[across]), ys(r[up]), 2.5, colour=colour) for r in each]
            if not each:
                continue
            mean = [statistics.mean(run[metric] for run in each) for metric in (across, up)]
            parts.append(svg.dot(xs(mean[0]), ys(mean[1]), 6, colour=colour))
    for row, (colour, name) in enumerate(zip(COLOURS, BALANCERS, strict=True)):
        parts.append(svg.dot(830, TOP + 20 * row, 6, colour=colour))
        parts.append(svg.words(842, TOP + 4 + 20 * row, name, anchor="start"))
    return svg.document(WIDTH, HEIGHT, "Balancers on two simulated data sets", parts)


def drifts(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Drift of energy over the steps with the law and without, a line a seed, both logarithmic."""
    arms = {"law on": "pendulum/pendulum_energy/fixed", "law off": "pendulum//fixed"}
    runs = {name: found[arm] for name, arm in arms.items()}
    xs = _Axis([math.log10(mark) for mark in MARKS], LEFT, power=True)
    every = [run[f"drift_{mark}"] for each in runs.values() for run in each for mark in MARKS]
    ys = _Axis([math.log10(value) for value in every], TOP + SIDE, up=True, power=True)
    parts = xs.drawn("steps of the learnt model") + ys.drawn("mean drift of energy", beside=LEFT)
    for row, (colour, (name, each)) in enumerate(zip(COLOURS, runs.items(), strict=False)):
        for run in each:
            points = [
                (xs(math.log10(mark)), ys(math.log10(run[f"drift_{mark}"]))) for mark in MARKS
            ]
            parts.append(svg.polyline(points, colour=colour))
        parts.append(svg.words(LEFT + 330, TOP + 20 + 20 * row, name, anchor="start", fill=colour))
    return svg.document(480, HEIGHT, "Drift of energy with and without the law", parts)


class _Axis:
    """Places values between the least and the greatest of them."""

    def __init__(
        self, values: Sequence[float], start: float, *, up: bool = False, power: bool = False
    ) -> None:
        margin = (max(values) - min(values)) * 0.06 or 1.0
        self.low, self.high = min(values) - margin, max(values) + margin
        self.start, self.up, self.power = start, up, power

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) * SIDE
        return self.start - share if self.up else self.start + share

    def drawn(self, title: str, beside: float = TOP + SIDE) -> list[str]:
        """The line, three values and what it shows."""
        parts = []
        for share in (0.06, 0.5, 0.94):
            value = self.low + share * (self.high - self.low)
            told = f"{10**value if self.power else value:.3g}"
            place = self(value)
            where = (beside - 8, place + 4) if self.up else (place, beside + 18)
            parts.append(svg.words(*where, told, size=11, anchor="end" if self.up else "middle"))
        if self.up:
            line = f"M{beside} {self.start}V{self.start - SIDE}"
            return [*parts, svg.path(line), svg.words(beside, TOP - 18, title, anchor="start")]
        line = f"M{self.start} {beside}H{self.start + SIDE}"
        middle = self.start + SIDE / 2
        return [*parts, svg.path(line), svg.words(middle, beside + 38, title)]


def main() -> None:
    """Trains what is missing, prints the table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shapes-epochs", type=int, default=6)
    parser.add_argument("--pendulum-epochs", type=int, default=40)
    parser.add_argument("--results", type=Path, default=Path("pareto.json"))
    parser.add_argument("--figures", type=Path, default=Path("docs"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    epochs = {"shapes": options.shapes_epochs, "pendulum": options.pendulum_epochs}
    found = results(options.results, options.seeds, epochs)
    print(table(found))
    (options.figures / "balancers.svg").write_text(fronts(found))
    (options.figures / "energy.svg").write_text(drifts(found))


if __name__ == "__main__":
    main()
