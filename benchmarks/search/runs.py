"""Runs: one search on one table with one seed, as a line of JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.search.tables.table import Table


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial as a measure sees it."""

    number: int
    at_s: float | None
    """Simulated time of its full result; None if it was not fully trained."""
    value: float | None
    """Its measured final value."""
    truth: float
    """Its true final value."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One search."""

    method: str
    table: str
    workers: int
    units: float
    """Compute in full trainings of median cost, over all workers."""
    seed: int
    trials: int
    complete: int
    sane: float
    """Share of proposals whose true value is at most five points below the default's."""
    path: list[tuple[float, int, float, float]]
    """Incumbents: compute in units, trial number, measured value, true value."""
    best: float
    median: float
    goal: float
    default: float
    """Of the table: best known, median of uniform samples, goal, and the default's true value."""
    reference: float | None
    """Measured value of the default; None if it was not fully trained."""
    cpu_s: float
    """Processor time of the whole run."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Run":
        """Return the run from plain data."""
        return cls(**{**data, "path": [tuple(step) for step in data["path"]]})


def summarize(
    method: str,
    table: Table,
    trials: Sequence[Ended],
    *,
    workers: int,
    units: float,
    seed: int,
    cpu_s: float,
) -> Run:
    """Return the run of these trials; the incumbent is the best full result as measured."""
    land = table.landscape
    default = table.truth(table.space.default_params())
    path: list[tuple[float, int, float, float]] = []
    full = [t for t in trials if t.at_s is not None and t.value is not None]
    for trial in sorted(full, key=lambda t: (t.at_s or 0.0, t.number)):
        value, compute = trial.value or 0.0, (trial.at_s or 0.0) * workers / land.unit_s
        if compute <= units and (not path or value > path[-1][2]):
            path.append((round(compute, 4), trial.number, round(value, 6), round(trial.truth, 6)))
    searched = [t.truth >= default - 0.05 for t in trials if t.number > 0]
    return Run(
        method=method,
        table=table.name,
        workers=workers,
        units=units,
        seed=seed,
        trials=len(trials),
        complete=len(full),
        sane=round(sum(searched) / max(1, len(searched)), 4),
        path=path,
        best=round(land.best, 6),
        median=round(land.median, 6),
        goal=round(land.goal, 6),
        default=round(default, 6),
        reference=next((t.value for t in full if t.number == 0), None),
        cpu_s=round(cpu_s, 3),
    )
