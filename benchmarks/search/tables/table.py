"""Tables: spaces whose learning curves are known, so that a search over them costs no training.

A table answers for every candidate of its space: true value and training time at each fidelity.
What a search sees has noise that depends on seed and candidate only (common random numbers): with
one seed, all methods see the same curve of the same candidate.
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.tables.space import (
    Params,
    TableSpace,
    canonical_key,
    draw_neighbor,
    draw_uniform,
)
from workers.job import TrainingJob
from workers.measurement import Measurement

Numbers = NDArray[np.float64]
COST_ERROR = 0.2
"""Standard deviation of the logarithm of a predicted cost."""
COST_SCALE = 1e6
"""FLOPs of one second."""
UNIFORM_SAMPLES = 3000
CLIMBS = 12


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviations of measured values."""

    candidate: float = 0.0
    """Of a candidate and seed, equal for all its fidelities."""
    epoch: float = 0.0
    """Of single fidelities."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a search sees of one candidate under one seed."""

    fidelities: Sequence[int]
    values: Numbers
    """Measured value at each fidelity."""
    seconds: Numbers
    """Training time up to each fidelity."""
    truth: float
    """True final value."""

    def value_at(self, fidelity: int) -> float:
        """Return the best value up to a fidelity; at the last one, its own value."""
        at = self.fidelities.index(fidelity)
        last = at == len(self.fidelities) - 1
        return float(self.values[at] if last else self.values[: at + 1].max())

    def seconds_at(self, fidelity: int) -> float:
        """Return the training time up to a fidelity; 0 for fidelity 0."""
        return float(self.seconds[self.fidelities.index(fidelity)]) if fidelity else 0.0


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """What is known about a table by asking it, for measures only."""

    unit_s: float
    """Seconds of one full training of median cost: the unit of compute."""
    best: float
    """Best true value that hill climbing finds."""
    median: float
    """Median true value of uniform samples."""
    worst: float
    goal: float
    """True value of the goal."""


Curves = Callable[[Sequence[Params], Sequence[int]], tuple[Numbers, Numbers]]
"""Return true values and training seconds, each [candidate, fidelity]."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A space with known learning curves, whose values are accuracies from 0 to 1.

    Examples:
        >>> table = closed_form.plateau()
        >>> table.observe(table.space.default_params(), seed=0).value_at(9)
    """

    name: str
    space: TableSpace
    fidelities: tuple[int, ...]
    """Fidelities that may be asked for, ascending; the last one is a full training."""
    curves: Curves
    noise: Noise = Noise()
    chance: float = 0.1
    """Accuracy of a constant prediction."""
    candidates: Callable[[], list[dict[str, Any]]] | None = None
    """All candidates, if there are few; None takes `UNIFORM_SAMPLES` uniform ones."""
    goal_share: float = 0.01
    """Share of the samples that reaches the goal."""
    unit_s: float | None = None
    """Unit of compute in seconds; None is the median of the samples."""
    replicates: Callable[[Params], Sequence[float]] | None = None
    """Recorded finals over seeds, one of which is seen instead of noise."""
    _seen: dict[tuple[int, str], Observation] = field(default_factory=dict, repr=False)

    @property
    def top(self) -> int:
        """Fidelity of a full training."""
        return self.fidelities[-1]

    def rungs(self, first: int, factor: int) -> tuple[int, ...]:
        """Return the fidelities `first`, `first * factor`, ... and the last one."""
        found, rung = [], first
        while rung < self.top:
            found.append(rung)
            rung *= factor
        return (*found, self.top)

    def truth(self, params: Params) -> float:
        """Return the true final value of a candidate."""
        return float(self.curves([params], [self.top])[0][0, 0])

    def observe(self, params: Params, seed: int) -> Observation:
        """Return what a search with a seed sees of a candidate."""
        key = canonical_key(params)
        if (known := self._seen.get((seed, key))) is None:
            if any(other != seed for other, _ in self._seen):
                self._seen.clear()  # one search at a time
            known = self._seen[seed, key] = self._observe(params, key, seed)
        return known

    def _observe(self, params: Params, key: str, seed: int) -> Observation:
        values, seconds = self.curves([params], self.fidelities)
        z = normals(seed, key, 1 + len(self.fidelities))
        seen = values[0] + self.noise.candidate * z[0] + self.noise.epoch * z[1:]
        if self.replicates is not None:
            finals = self.replicates(params)
            seen = np.array([finals[int(abs(z[0]) * 1000) % len(finals)]])
        return Observation(
            fidelities=self.fidelities,
            values=np.clip(seen, 0.0, 1.0),
            seconds=seconds[0],
            truth=float(values[0, -1]),
        )

    @cached_property
    def landscape(self) -> Landscape:
        """Measures of the whole table, by uniform samples and hill climbing on true values."""
        rng = random.Random(1)
        if self.candidates is not None:
            points = self.candidates()
        else:
            points = [draw_uniform(self.space, rng) for _ in range(UNIFORM_SAMPLES)]
        values, seconds = (found[:, 0] for found in self.curves(points, [self.top]))
        order = np.argsort(values)
        best = self._climb([points[i] for i in order[-5:]] + [self.space.default_params()])
        return Landscape(
            unit_s=float(np.median(seconds)) if self.unit_s is None else self.unit_s,
            best=max(best, float(values.max())),
            median=float(np.median(values)),
            worst=float(values.min()),
            goal=float(np.sort(values)[-max(1, round(self.goal_share * len(values)))]),
        )

    def _climb(self, points: list[dict[str, Any]]) -> float:
        rng = random.Random(2)
        for _ in range(CLIMBS):
            near = [
                draw_neighbor(
                    self.space, rng.choice(points), rng, changes=rng.randint(1, 3), width=0.1
                )
                for _ in range(60)
            ]
            points = points + near
            values = self.curves(points, [self.top])[0][:, 0]
            points = [points[i] for i in np.argsort(-values, kind="stable")[:4]]
        return float(self.curves(points, [self.top])[0].max())


class TableWorker:
    """Worker of a simulated study: reports a table's curve at the rungs of the budget."""

    def __init__(self, table: Table, seed: int) -> None:
        self._table = table
        self._seed = seed
        self.truths: dict[int, float] = {}
        """True final value of each started trial, by number."""

    def __call__(self, job: TrainingJob, _dataset: object) -> Iterator[Measurement]:
        """Yield measurements at possible rungs; of trial 0, the reference, at every fidelity."""
        seen = self._table.observe(job.candidate["decisions"], self._seed)
        self.truths[job.trial_number] = seen.truth
        rungs = self._table.fidelities if job.trial_number == 0 else job.budget.possible_rungs()
        for fidelity in (f for f in rungs if f >= self._table.fidelities[0]):
            yield Measurement(
                fidelity=fidelity,
                metrics={"val_accuracy": seen.value_at(fidelity)},
                elapsed_s=seen.seconds_at(fidelity),
            )


def normals(seed: int | str, key: str, count: int) -> Numbers:
    """Return standard normal numbers that depend on seed and key only."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).standard_normal(count)


def predicted_cost(curves: Curves, top: int) -> Callable[[Params], float]:
    """Return a predictor of a candidate's full training: its true seconds with a lasting error."""

    def flops(params: Params) -> float:
        seconds = float(curves([params], [top])[1][0, 0])
        error = normals("cost", canonical_key(params), 1)[0]
        return float(COST_SCALE * seconds * np.exp(COST_ERROR * error))

    return flops


def data_folder() -> Path:
    """Return the folder of recorded results.

    Raises:
        SystemExit: It is not set, or is no folder.
    """
    folder = os.environ.get("ARCHSCOUT_BENCH_DATA", "")
    if not folder or not Path(folder).is_dir():
        raise SystemExit(
            f"ARCHSCOUT_BENCH_DATA={folder!r} is not a folder; set it to the folder of the "
            "recorded results (lcbench_yahpo/, nas_bench_macro_cifar10.json.gz)"
        )
    return Path(folder)
