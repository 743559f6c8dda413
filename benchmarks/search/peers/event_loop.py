"""A light event loop for peers: the tables, noise and simulated time of our own search."""

import heapq
import time
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from benchmarks.search.runs import Ended, Run, summarize
from benchmarks.search.tables.table import Table


@dataclass(slots=True, kw_only=True)
class PeerTrial:
    """A trial of a peer."""

    number: int
    params: dict[str, Any]
    values: dict[int, float] = field(default_factory=dict)
    """Measured value by fidelity, ascending."""
    state: Literal["running", "paused", "stopped", "complete"] = "running"

    @property
    def reached(self) -> int:
        """Last measured fidelity; 0 before the first."""
        return next(reversed(self.values), 0)

    @property
    def value(self) -> float:
        """Last measured value."""
        return self.values[self.reached]


class Peer(Protocol):
    """A search method in simulated time."""

    def next(self) -> tuple[PeerTrial, int]:
        """Return a new or paused trial for a free worker, and the fidelity to train it to."""
        ...

    def tell(self, trial: PeerTrial) -> int | None:
        """Take a trial's new value; return the fidelity to continue to, or None to stop here."""
        ...


class _EventLoop:
    """Trainings in the order in which they end."""

    def __init__(self, table: Table, seed: int) -> None:
        self._table = table
        self._seed = seed
        self._events: list[tuple[float, int, PeerTrial, int]] = []
        self._now_s, self._started = 0.0, 0
        self._trials: dict[int, PeerTrial] = {}
        self._ended_s: dict[int, float] = {}

    def start(self, trial: PeerTrial, fidelity: int) -> None:
        """Train a trial to a fidelity on a free worker."""
        self._trials[trial.number] = trial
        seen = self._table.observe(trial.params, self._seed)
        seconds = seen.seconds_at(fidelity) - seen.seconds_at(trial.reached)
        self._started += 1
        heapq.heappush(self._events, (self._now_s + seconds, self._started, trial, fidelity))

    def finish_next(self, limit_s: float) -> PeerTrial | None:
        """Return the trial that is measured next; None if the limit comes first."""
        if not self._events or self._events[0][0] > limit_s:
            return None
        self._now_s, _, trial, fidelity = heapq.heappop(self._events)
        trial.values[fidelity] = self._table.observe(trial.params, self._seed).value_at(fidelity)
        if fidelity == self._table.top:
            trial.state = "complete"
            self._ended_s[trial.number] = self._now_s
        return trial

    def ended(self) -> list[Ended]:
        """Return all trials, with the time and value of the complete ones."""
        return [
            Ended(
                number=trial.number,
                at_s=self._ended_s.get(trial.number),
                value=trial.value if trial.state == "complete" else None,
                truth=self._table.observe(trial.params, self._seed).truth,
            )
            for trial in self._trials.values()
        ]


def run_peer(
    table: Table, peer: Peer, *, method: str, workers: int, units: float, seed: int
) -> Run:
    """Search a table with a peer.

    Args:
        table: The table.
        peer: The method, new.
        method: Its name in the results.
        workers: Trials at the same time.
        units: Limit of compute, in full trainings of median cost over all workers.
        seed: Seed of the table's noise; the method has its own.
    """
    began = time.process_time()
    limit_s = units * table.landscape.unit_s / workers
    loop = _EventLoop(table, seed)
    for _ in range(workers):
        loop.start(*peer.next())
    while trial := loop.finish_next(limit_s):
        further = peer.tell(trial)
        loop.start(*(peer.next() if further is None else (trial, further)))
    return summarize(
        method,
        table,
        loop.ended(),
        workers=workers,
        units=units,
        seed=seed,
        cpu_s=time.process_time() - began,
    )
