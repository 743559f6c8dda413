"""Closed-form tables: small spaces with known answers, cheap enough for tests."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.search.tables.space import Params, TableSpace
from benchmarks.search.tables.table import Noise, Numbers, Table, predicted_cost
from search_spaces.domains import FloatRange, IntRange, Record, Repeat, choice

FIDELITIES = tuple(range(1, 10))
CHANCE = 0.1
STAGE = Record(dict, {"width": IntRange(16, 64, step=16), "block": choice("conv", "attention")})
DOMAIN = Record(
    dict,
    {
        "learning_rate": FloatRange(1e-4, 1e-1, log=True, initial=1e-3),
        "momentum": FloatRange(0.0, 0.99, initial=0.5),
        "optimizer": choice("sgd", "adam", "lion"),
        "stages": Repeat(
            Record(
                dict, {"width": IntRange(16, 64, step=16), "block": choice("conv", "attention")}
            ),
            1,
            3,
        ),
    },
)
DEFAULT = {
    "learning_rate": 1e-3,
    "momentum": 0.5,
    "optimizer": "sgd",
    "stages.count": 1,
    "stages.0.width": 32,
    "stages.0.block": "conv",
}


def plateau() -> Table:
    """Return a smooth optimum: the closer to it, the higher and the faster the curve."""

    def curve(distance: float) -> Numbers:
        final = CHANCE + (0.98 - CHANCE) / (1 + distance)
        return _rising(final, rate=0.6)

    return _table("plateau", curve, Noise(candidate=0.002, epoch=0.001))


def crossing() -> Table:
    """Return curves that cross before epoch 2: the better the final value, the later the start."""

    def curve(distance: float) -> Numbers:
        share = 1 / (1 + distance)
        epochs = np.maximum(np.array(FIDELITIES) - 1.2 * share, 0.0)
        return CHANCE + (0.98 - CHANCE) * share * (1 - np.exp(-2 * epochs))

    return _table("crossing", curve, Noise())


def noise_only() -> Table:
    """Return equal curves for all candidates, with the noise of small data sets."""

    def curve(_distance: float) -> Numbers:
        return _rising(0.97, rate=0.6)

    return _table("noise-only", curve, Noise(candidate=0.006, epoch=0.004))


def _rising(final: float, rate: float) -> Numbers:
    epochs = np.array(FIDELITIES)
    return CHANCE + (final - CHANCE) * (1 - np.exp(-rate * epochs))


def _table(name: str, curve: Callable[[float], Numbers], noise: Noise) -> Table:
    def curves(points: Sequence[Params], fidelities: Sequence[int]) -> tuple[Numbers, Numbers]:
        at = np.asarray(fidelities) - 1
        values = np.array([curve(_distance(p)) for p in points])
        seconds = np.array([_seconds(p) * np.array(FIDELITIES) for p in points])
        return values[:, at], seconds[:, at]

    space = TableSpace(
        name=name, domain=DOMAIN, start=DEFAULT, flops=predicted_cost(curves, FIDELITIES[-1])
    )
    return Table(
        name=name, space=space, fidelities=FIDELITIES, curves=curves, noise=noise, chance=CHANCE
    )


def _distance(params: Params) -> float:
    """Return the distance from the optimum: adam at 0.01, momentum 0.9, wide attention stages."""
    widths, blocks = _stages(params, "width"), _stages(params, "block")
    return float(
        0.25 * math.log10(params["learning_rate"] / 0.01) ** 2
        + 0.3 * (params["momentum"] - 0.9) ** 2
        + {"sgd": 0.15, "adam": 0.0, "lion": 0.3}[params["optimizer"]]
        + 0.05 * (3 - len(widths))
        + 0.04 * sum((64 - width) / 48 for width in widths) / len(widths)
        + 0.1 * sum(block == "conv" for block in blocks) / len(blocks)
    )


def _seconds(params: Params) -> float:
    """Return the seconds of one epoch."""
    return sum(_stages(params, "width")) / 32 * (1 + _stages(params, "block").count("attention"))


def _stages(params: Params, name: str) -> list[Any]:
    return [params[f"stages.{i}.{name}"] for i in range(params["stages.count"])]
