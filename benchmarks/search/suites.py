"""Suites: which tables are searched, with how many workers, how long and with how many seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.search.methods import OURS, PEERS, WITHOUT_RUNGS
from benchmarks.search.recordings.store import read
from benchmarks.search.tables.lcbench import DEVELOPMENT, final_tasks, lcbench
from benchmarks.search.tables.macro import macro
from benchmarks.search.tables.table import Table


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Tables that are searched under equal conditions, and averaged over."""

    name: str
    tables: Callable[[], Sequence[Table]]
    workers: int
    units: float
    """Limit of compute, in full trainings of median cost over all workers."""
    seeds: int
    methods: Sequence[str]
    reference: str = "today"
    """Method that the others are compared with."""


def _recorded(quantile: float | None) -> list[Table]:
    """Return our own recordings whose regression answers for every candidate."""
    from benchmarks.search.data.datasets import DATA  # noqa: PLC0415 - loads torch
    from benchmarks.search.recordings.surrogate import recordings  # noqa: PLC0415 - loads torch

    tables = [recordings(name, quantile=quantile) for name in DATA if read(name)]
    return [table for table in tables if not table.space.name.endswith("-recorded")]


EVERY_METHOD = (*PEERS, *OURS)
THREE_RUNGS = tuple(method for method in EVERY_METHOD if method != "random + ASHA, rung 3")
"""On 9 epochs, where the third rung is the end."""
DEVELOPMENT_SUITES = (
    Suite(
        name="lcbench",
        tables=lambda: [lcbench(task) for task in DEVELOPMENT],
        workers=8,
        units=40,
        seeds=10,
        methods=EVERY_METHOD,
    ),
    Suite(
        name="macro",
        tables=lambda: [macro()],
        workers=1,
        units=80,
        seeds=20,
        methods=("oracle", *WITHOUT_RUNGS, "worst", *OURS),
        reference="TPE 5",
    ),
    *(
        Suite(
            name=name,
            tables=partial(_recorded, quantile),
            workers=2,
            units=40,
            seeds=10,
            methods=THREE_RUNGS,
        )
        for name, quantile in (("recorded", None), ("recorded-median-default", 0.5))
    ),
)
"""The last two: our recordings, from the space's own default and from a median one."""
FINAL_SUITES = (
    Suite(
        name="lcbench-final",
        tables=lambda: [lcbench(task) for task in final_tasks()],
        workers=8,
        units=40,
        seeds=20,
        methods=EVERY_METHOD,
    ),
)
"""Tasks that nothing was developed on; run once, for a release."""
