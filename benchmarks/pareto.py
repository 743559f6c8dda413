"""What balancers and a law of physics are worth on simulated data with several targets.

    .venv/bin/python benchmarks/pareto.py [--seeds 10] [--results pareto.json] [--figures docs]

One network and recipe for each data set, fixed epochs, equal seeds for all. On `shapes` the class
and the angle are two terms of equal share; each balancer gives a point of accuracy against error of
the angle. On `pendulum` the squared error and the kept energy are; each gives a point of the error
of a step against the drift of energy over 1,000 steps of the model, each fed its own answer.
Then the law is switched on, weakly on and off, with all examples and with a tenth of them at as
many steps of training, and the drift is shown over the steps of the model. Trainings that the file
of results knows are not repeated.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from trainings import trained

from orchestrator.figures import svg
from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Concatenate,
    ConvolutionStem,
    FeedForward,
    MultiTaskHead,
    Residual,
    Stage,
    VectorStem,
)
from search_spaces.candidate import Candidate
from search_spaces.loss_terms import BalancerName, LossTerm, LossWeights
from search_spaces.recipe import Recipe
from workers.data import Dataset, DataSpec, load, pendulum
from workers.training.trainer import Trainer

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
    head=MultiTaskHead(),
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
    head=MultiTaskHead(),
)
FEW = 300
"""Examples before validation and test part are taken off, a tenth of all."""
EPOCHS = {"shapes": 6, "pendulum": 40}


class Arm(NamedTuple):
    """What is trained and compared."""

    source: str
    side: str = ""
    """The second term, if there is one."""
    balancer: BalancerName = "fixed"
    weight: float = 1.0
    """Of the second term; the main one has 1."""
    few: bool = False

    @property
    def spec(self) -> DataSpec:
        """The data it is trained on."""
        return DataSpec(source=self.source, limit=FEW if self.few else None)

    @property
    def epochs(self) -> int:
        """As many steps with few examples as with all."""
        return EPOCHS[self.source] * (pendulum.COUNT // FEW if self.few else 1)

    def __str__(self) -> str:
        return "/".join(map(str, self))


BALANCED: dict[str, dict[str, Arm]] = {
    source: {name: Arm(source, side, name) for name in BALANCERS}
    for source, side in (("shapes", "mse"), ("pendulum", "pendulum_energy"))
}
"""Arms by data set and balancer."""
LAW: dict[bool, dict[str, Arm]] = {
    few: {
        "law off": Arm("pendulum", few=few),
        "law at 0.1": Arm("pendulum", "pendulum_energy", weight=0.1, few=few),
        "law at 1": Arm("pendulum", "pendulum_energy", few=few),
    }
    for few in (False, True)
}
"""Arms by whether examples are few, and by the law's weight."""
ARMS = list(
    dict.fromkeys(arm for arms in (*BALANCED.values(), *LAW.values()) for arm in arms.values())
)
Found = Mapping[Arm, Sequence[Mapping[str, float]]]
"""Figures of each arm, one mapping a seed."""


def candidate(arm: Arm) -> Candidate:
    """The network and recipe of a data set with the arm's loss."""
    main = "cross_entropy" if arm.source == "shapes" else "mse"
    terms = {main: LossTerm()}
    if arm.side:
        terms[arm.side] = LossTerm(weight=arm.weight)
    return Candidate(
        architecture=SHAPES if arm.source == "shapes" else PENDULUM,
        recipe=RECIPE,
        losses=LossWeights(main=main, terms=terms, balancer=arm.balancer),
        space_name="benchmark",
        space_version="1",
    )


def measured(arm: Arm, dataset: Dataset, seed: int) -> dict[str, Any]:
    """One training's figures."""
    trainer, (*_, last) = trained(candidate(arm), arm.spec, dataset, seed=seed, epochs=arm.epochs)
    found = {name: value for name, value in last.metrics.items() if name.startswith("val_")}
    found |= {"elapsed_s": last.elapsed_s}
    return found | (drift(trainer) if arm.source == "pendulum" else {})


def drift(trainer: Trainer) -> dict[str, float]:
    """Mean change of energy after so many steps of the learned model, from states never seen.

    What has run away counts as `RAN_AWAY`.
    """
    start_N2 = pendulum.sample_states(STARTS, np.random.default_rng(99))
    before_N = pendulum.energy(start_N2)
    network, units = trainer.network.eval(), trainer.train.target_scaler
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


def results(path: Path, seeds: int) -> Found:
    """All figures; what is missing is trained and kept at once."""
    known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    datasets = {spec: load(spec) for spec in dict.fromkeys(arm.spec for arm in ARMS)}
    for seed in range(seeds):
        for arm in ARMS:
            key = f"{arm}/{seed}"
            if key not in known:
                known[key] = measured(arm, datasets[arm.spec], seed)
                path.write_text(json.dumps(known, indent=1))
                print(key, {k: f"{v:.4g}" for k, v in known[key].items()}, flush=True)
    return {arm: [known[f"{arm}/{seed}"] for seed in range(seeds)] for arm in ARMS}


def table(found: Found) -> str:
    """Medians and, after them, least and greatest of the seeds, in Markdown."""
    steps = ("val_rmse", *(f"drift_{mark}" for mark in MARKS))
    parts = (
        ("shapes", BALANCED["shapes"], ("val_accuracy", "val_mae", "elapsed_s")),
        ("pendulum", BALANCED["pendulum"], ("val_rmse", "drift_100", "drift_1000", "elapsed_s")),
        ("all examples", LAW[False], steps),
        ("few examples", LAW[True], steps),
    )
    lines = []
    for title, arms, metrics in parts:
        lines += [f"| {title} | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
        for name, arm in arms.items():
            cells = [_cell([run[metric] for run in found[arm]]) for metric in metrics]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


WIDTH, HEIGHT, LEFT, TOP, SIDE = 940, 420, 70, 50, 310
COLORS = ("#2563eb", "#ea580c", "#15803d", "#7c3aed", "#be123c", "#0e7490", "#a16207", "#475569")


def fronts(found: Found) -> str:
    """A panel for each data set: a small dot a seed, a large one their median."""
    parts: list[str] = []
    panels = (
        ("shapes", "val_accuracy", "val_mae", "error of the angle, degrees"),
        ("pendulum", "val_rmse", "drift_1000", "drift of energy, 1,000 steps"),
    )
    for index, (source, across, up, title) in enumerate(panels):
        power = source == "pendulum"
        places = {
            name: [tuple(math.log10(r[m]) if power else r[m] for m in (across, up)) for r in runs]
            for name, runs in ((name, found[arm]) for name, arm in BALANCED[source].items())
        }
        every = [place for each in places.values() for place in each]
        xs = _Axis([x for x, _ in every], LEFT + index * 400, power=power)
        ys = _Axis([y for _, y in every], TOP + SIDE, up=True, power=power)
        parts += xs.rendered(f"{source}: {across}") + ys.rendered(title, at=xs.start)
        for color, each in zip(COLORS, places.values(), strict=True):
            parts += [svg.dot(xs(x), ys(y), 2.5, color=color) for x, y in each]
            x, y = (statistics.median(column) for column in zip(*each, strict=True))
            parts.append(svg.dot(xs(x), ys(y), 6, color=color))
    for row, (color, name) in enumerate(zip(COLORS, BALANCERS, strict=True)):
        parts.append(svg.dot(830, TOP + 20 * row, 6, color=color))
        parts.append(svg.text(842, TOP + 4 + 20 * row, name, anchor="start"))
    return svg.document(WIDTH, HEIGHT, "Balancers on two simulated data sets", parts)


def drifts(found: Found) -> str:
    """Drift of energy over the model's steps: a thin line a seed, a thick one their median."""
    runs = [run for arms in LAW.values() for arm in arms.values() for run in found[arm]]
    every = [math.log10(run[f"drift_{mark}"]) for run in runs for mark in MARKS]
    ys = _Axis(every, TOP + SIDE, up=True, power=True)
    parts: list[str] = []
    for index, (few, arms) in enumerate(LAW.items()):
        xs = _Axis([math.log10(mark) for mark in MARKS], LEFT + index * 400, power=True)
        examples = f"steps of the model, {'a tenth of the' if few else 'all'} examples"
        parts += xs.rendered(examples) + ys.rendered("mean drift of energy", at=xs.start)
        for color, arm in zip(COLORS, arms.values(), strict=False):
            drift_SM = [[math.log10(run[f"drift_{mark}"]) for mark in MARKS] for run in found[arm]]
            middle_M = [statistics.median(column) for column in zip(*drift_SM, strict=True)]
            for line, width in [*((one, 0.5) for one in drift_SM), (middle_M, 3)]:
                points = [(xs(math.log10(m)), ys(d)) for m, d in zip(MARKS, line, strict=True)]
                parts.append(svg.polyline(points, color=color, width=width))
    for row, (color, name) in enumerate(zip(COLORS, LAW[False], strict=False)):
        parts.append(svg.text(830, TOP + 4 + 20 * row, name, anchor="start", fill=color))
    return svg.document(WIDTH, HEIGHT, "Drift of energy with and without the law", parts)


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

    def rendered(self, title: str, at: float = TOP + SIDE) -> list[str]:
        """The line, three values and what it shows."""
        parts = []
        for share in (0.06, 0.5, 0.94):
            value = self.low + share * (self.high - self.low)
            label = f"{10**value if self.power else value:.3g}"
            place = self(value)
            where = (at - 8, place + 4) if self.up else (place, at + 18)
            parts.append(svg.text(*where, label, size=11, anchor="end" if self.up else "middle"))
        if self.up:
            line = f"M{at} {self.start}V{self.start - SIDE}"
            return [*parts, svg.path(line), svg.text(at, TOP - 18, title, anchor="start")]
        line = f"M{self.start} {at}H{self.start + SIDE}"
        middle = self.start + SIDE / 2
        return [*parts, svg.path(line), svg.text(middle, at + 38, title)]


def main() -> None:
    """Trains what is missing, prints the table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--results", type=Path, default=Path("pareto.json"))
    parser.add_argument("--figures", type=Path, default=Path("docs"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = results(options.results, options.seeds)
    print(table(found))
    (options.figures / "balancers.svg").write_text(fronts(found))
    (options.figures / "energy.svg").write_text(drifts(found))


if __name__ == "__main__":
    main()
