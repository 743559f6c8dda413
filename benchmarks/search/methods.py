"""Methods of the comparison, by name."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.search.ours import run_study
from benchmarks.search.peers.event_loop import Peer, run_peer
from benchmarks.search.peers.hyperband import BohbModel, HyperbandPeer, PriorBandModel
from benchmarks.search.peers.proposers import (
    EvolutionProposer,
    FirstHalving,
    FirstTpe,
    OptunaTpe,
    RayAsha,
    StoppingPeer,
    TruthProposer,
    UniformProposer,
)
from benchmarks.search.runs import Run
from benchmarks.search.tables.table import Table

OURS: dict[str, Mapping[str, Any]] = {"ours": {"sampler": {"name": "auto"}}}
"""Keys of study.yaml of our own methods; what is not given has the product's defaults."""


def _random_asha(table: Table, seed: int, *, place: int) -> Peer:
    rungs = table.rungs(table.fidelities[0], 3)[place:]
    return StoppingPeer(table, UniformProposer(table, seed), rungs, RayAsha(3))


def _today(table: Table, seed: int) -> Peer:
    rungs = table.rungs(table.fidelities[0], 3)
    return StoppingPeer(table, FirstTpe(table, seed), rungs, FirstHalving())


def _hand_wired(table: Table, seed: int) -> Peer:
    rungs = table.rungs(table.fidelities[0], 4)
    return StoppingPeer(table, OptunaTpe(table, seed, stopped_as="COMPLETE"), rungs, RayAsha(4))


def _bohb(table: Table, seed: int) -> Peer:
    return HyperbandPeer(table, BohbModel(table, seed), table.rungs(table.fidelities[0], 3))


def _priorband(table: Table, seed: int) -> Peer:
    rungs = table.rungs(table.fidelities[0], 3)
    return HyperbandPeer(table, PriorBandModel(table, seed, rungs), rungs)


PEERS: dict[str, Callable[[Table, int], Peer]] = {
    "oracle": lambda t, s: StoppingPeer(t, TruthProposer(t, s)),
    "today": _today,
    "random": lambda t, s: StoppingPeer(t, UniformProposer(t, s)),
    "random + ASHA, rung 1": partial(_random_asha, place=0),
    "random + ASHA, rung 2": partial(_random_asha, place=1),
    "random + ASHA, rung 3": partial(_random_asha, place=2),
    "TPE 5": lambda t, s: StoppingPeer(t, OptunaTpe(t, s)),
    "TPE 5 + ASHA(1,4) as COMPLETE": _hand_wired,
    "evolution": lambda t, s: StoppingPeer(t, EvolutionProposer(t, s)),
    "PriorBand": _priorband,
    "BOHB-like": _bohb,
    "worst": lambda t, s: StoppingPeer(t, TruthProposer(t, s, worst=True)),
}
"""Peers by name, made for a table and a seed. `today` is this project's search before `auto`."""
WITHOUT_RUNGS = ("today", "TPE 5", "random", "evolution", "PriorBand", "BOHB-like")
"""Peers on tables of finals, where methods that differ in their rungs alone are equal."""


def search(name: str, table: Table, *, workers: int, units: float, seed: int) -> Run:
    """Search a table with a method.

    Raises:
        KeyError: There is no such method.
    """
    if name in OURS:
        return run_study(
            table, method=name, workers=workers, units=units, seed=seed, keys=OURS[name]
        )
    peer = PEERS[name](table, seed)
    return run_peer(table, peer, method=name, workers=workers, units=units, seed=seed)
