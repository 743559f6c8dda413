"""A light event loop for peers: the tables, noise and simulated time of our own search."""

import heapq
import time
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from benchmarks.search.runs import Ended, Run, summarize
from benchmarks.search.tables import Table


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
    trials: dict[int, PeerTrial] = {}
    ended_s: dict[int, float] = {}
    events: list[tuple[float, int, PeerTrial, int]] = []
    now_s, started = 0.0, 0

    def start(trial: PeerTrial, fidelity: int) -> None:
        nonlocal started
        seen = table.observe(trial.params, seed)
        seconds = seen.seconds_at(fidelity) - seen.seconds_at(trial.reached)
        started += 1
        heapq.heappush(events, (now_s + seconds, started, trial, fidelity))

    for _ in range(workers):
        trial, fidelity = peer.next()
        trials[trial.number] = trial
        start(trial, fidelity)
    while events and events[0][0] <= limit_s:
        now_s, _, trial, fidelity = heapq.heappop(events)
        trial.values[fidelity] = table.observe(trial.params, seed).value_at(fidelity)
        if fidelity == table.top:
            trial.state = "complete"
            ended_s[trial.number] = now_s
        if (further := peer.tell(trial)) is None:
            trial, further = peer.next()
            trials[trial.number] = trial
        start(trial, further)
    ended = [
        Ended(
            number=trial.number,
            at_s=ended_s.get(trial.number),
            value=trial.value if trial.state == "complete" else None,
            truth=table.observe(trial.params, seed).truth,
        )
        for trial in trials.values()
    ]
    return summarize(
        method,
        table,
        ended,
        workers=workers,
        units=units,
        seed=seed,
        cpu_s=time.process_time() - began,
    )
