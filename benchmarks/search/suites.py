"""Suites: which tables are searched, with how many workers, how long and with how many seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.search.lcbench import DEVELOPMENT, final_tasks, lcbench
from benchmarks.search.macro import macro
from benchmarks.search.methods import OURS, PEERS, WITHOUT_RUNGS
from benchmarks.search.tables import Table


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


EVERY_METHOD = (*PEERS, *OURS)
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
)
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
