"""Surrogate of the trainer: closed-form learning curves, for searches without training.

A curve is a function of the candidate's decisions, the seed and the epoch. Accuracy rises as a
power law towards a ceiling; the ceiling falls with the squared distance of a few decisions from
their best values, so that the objective is smooth. Decisions are identified by their path in the
candidate's JSON form, so any search space works.
"""

import hashlib
import json
import math
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

from workers.job import TrainingJob
from workers.measurement import Measurement

CHANCE = 0.1
CEILING = 0.98
DEEPEST_DROP = 0.45
SEED_NOISE, EPOCH_NOISE = 0.0015, 0.001
"""Standard deviations, as between seeds of real benchmarks (0.14 to 0.2 points)."""
BEST_LEARNING_RATE = 3e-3


def curve(job: TrainingJob) -> Iterator[Measurement]:
    """Yield one measurement per epoch up to the budget's maximum, without delay.

    A resumed job repeats the same curve from its first epoch.
    """
    started = time.monotonic()
    leaves = dict(_leaves(job.candidate, ""))
    drop, speed = (
        _penalty(leaves),
        _unit("hurry", json.dumps(leaves, sort_keys=True, default=str)),
    )
    noise = random.Random(f"{job.seed}")  # noqa: S311 - a simulation, not a secret
    ceiling = CEILING - DEEPEST_DROP * drop / (1 + drop) + noise.gauss(0, SEED_NOISE)
    exponent = 0.6 + 0.6 * speed
    for epoch in range(1, job.budget.maximum + 1):
        missing = (ceiling - CHANCE) * (1 + epoch) ** -exponent
        seen = ceiling - missing + noise.gauss(0, EPOCH_NOISE)
        trained = min(1.0, seen + 0.02 * (1 - 1 / epoch))
        yield Measurement(
            fidelity=epoch,
            metrics={
                "train_accuracy": trained,
                "train_loss": -math.log(trained),
                "val_accuracy": min(1.0, seen),
                "val_loss": -math.log(min(1.0, seen)),
            },
            elapsed_s=time.monotonic() - started,
        )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the decisions of a JSON document by path, without its space and schema."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            if path or key not in {"schema", "space"}:
                yield from _leaves(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{path}.{position}")
    else:
        yield path, value


def _penalty(leaves: Mapping[str, Any]) -> float:
    """Return the distance of the decisions from their best values, at least 0."""
    total = 0.0
    for path, value in leaves.items():
        name = path.rsplit(".", 1)[-1]
        if name == "learning_rate" and isinstance(value, int | float) and value > 0:
            total += 0.35 * math.log10(value / BEST_LEARNING_RATE) ** 2
            continue
        # Without positions in lists: the widths of all stages share one best value.
        kind = ".".join(part for part in path.split(".") if not part.isdigit())
        weight = 0.3 * _unit("weight", kind) ** 4
        total += weight * _distance(kind, value)
    return total


def _distance(kind: str, value: Any) -> float:
    """Return the squared distance of one decision from its best value, about 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _unit("label", f"{kind}={value}")
    if not math.isfinite(value):
        return 1.0
    # Fractions and weights on a linear scale, sizes and counts on a logarithmic one.
    if 0 <= value <= 1:
        return (float(value) - _unit("best", kind)) ** 2
    size = math.copysign(math.log10(1 + abs(value)), value)
    return min(4.0, (size - 0.5 - 1.5 * _unit("best", kind)) ** 2)


def _unit(purpose: str, text: str) -> float:
    """Return a pseudo-random number in [0, 1) of a text, equal on every machine."""
    digest = hashlib.sha256(f"{purpose}:{text}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
