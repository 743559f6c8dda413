"""Rounds through Ray: drivers and workers killed while the real engine trains two trials at once.

One cluster serves all rounds; each driver joins it, as `engine.address` asks. Judged like the
rounds in process, and besides: a killed worker is replaced in time, costs its own trial one
attempt and its neighbors none, and no worker outlives its driver.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import drivers
import psutil
import ray_training
import rounds
from drivers import BY_THE_WORLD, FINISHED, World
from support import checker

from orchestrator.engines.in_process import InProcessEngine
from orchestrator.engines.ray_tune import RayTuneEngine
from orchestrator.ledger import Ledger
from workers.data import DataSpec, load

TRAIN = f"{ray_training.__file__}:train"
TIMEOUT_S = 300.0
"""Time limit of anything, in seconds; actual durations are only reported."""

WORKER_MOMENTS = ("random", "training", "kept", "two at once", "with its driver")
POINTS = ("given_back.uncommitted", "given_back.committed")
"""Failpoints that only runs on Ray pass."""
DRIVER_POINTS = (
    "recorded.uncommitted",
    "given_back.uncommitted",
    "attempt_started.committed",
    "finished.uncommitted",
    "given_back.committed",
    "trial_added.uncommitted",
    "recorded.committed",
    "finished.committed",
    "attempt_started.uncommitted",
    "trial_added.committed",
)
"""Failpoints at which a driver on Ray is killed, each at most once in a round."""
_KILLED = -signal.SIGKILL
_PER_ROUND, _TURN = 5, 10
_FORGIVEN = 1
"""Deaths after which a trial is spared: one of two may be counted for the trial before it."""


@dataclass(slots=True, kw_only=True)
class RayRound(rounds.Played):
    """A round of drivers on Ray."""

    alone: bool = False
    """True if each driver starts its own cluster."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Measured durations by step, in seconds."""

    def to_dict(self) -> dict[str, Any]:
        # `super()` without a class finds none in a dataclass with slots (Python 3.11).
        return {**rounds.Played.to_dict(self), "seconds": self.seconds}

    def took(self, what: str, seconds: float) -> None:
        """Record a duration."""
        self.seconds.setdefault(what, []).append(round(seconds, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One driver: the workers killed during it, and its own end."""

    workers: tuple[str, ...]
    """One of WORKER_MOMENTS."""
    death: str | None
    """`random`, a point, or None: it finishes the study."""

    @property
    def fault(self) -> str | None:
        return None if self.death in {None, "random"} else self.death


def plan(*, kills: int, databases: list[str]) -> list[RayRound]:
    """Plan the rounds, each of about five kills.

    Of every ten one for each database has clusters of its own.
    """
    return [
        RayRound(
            number=number,
            database=databases[number % len(databases)],
            alone=number % _TURN >= _TURN - len(databases),
        )
        for number in range(-(-kills // _PER_ROUND))
    ]


def lives(number: int, chance: random.Random) -> list[Life]:
    """Plan three drivers: the first is killed at a failpoint, the second at a random moment."""
    point = DRIVER_POINTS[number % len(DRIVER_POINTS)]
    nth = 1 if point.startswith("given_back") else chance.randint(3, 6)
    if point.startswith("recorded"):
        nth = chance.randint(8, 20)
    moments = [WORKER_MOMENTS[(number + turn) % 3] for turn in range(3)]
    return [
        Life(workers=(moments[0],), death=f"{point}:{nth}:kill"),
        Life(workers=("two at once",) if number % 2 else (moments[1],), death="random"),
        Life(workers=("with its driver",) if number % 3 == 0 else (moments[2],), death=None),
    ]


def asked(number: int) -> dict[str, Any]:
    """Half of the studies run TPE, one trial at a time, which makes them reproducible."""
    if number // 2 % 2:
        return {"train": TRAIN, "resources": {"cpu": 2}}
    free = {"sampler": {"name": "random"}, "pruner": {"name": "none"}}
    return {"train": TRAIN, "resources": {"cpu": 1}, **free}


def search(world: World, address: str) -> None:
    """Run the study to its end on Ray."""
    cpu = world.config.resources.cpu
    with closing(RayTuneEngine(address, cpu=cpu)) as engine:
        drivers.drive(world, engine, load(DataSpec(source="surrogate")))


def play(this: RayRound, world: World, store: Path, address: str, chance: random.Random) -> None:
    """Run a round and record its results."""
    reference = rounds.uninterrupted(world, store, calm)
    with Ledger.open(world.url):
        pass  # makes its tables, which the game looks into
    game = Game(this, world, address, chance)
    for life in lives(this.number, chance):
        game.live(life)
    if not game.finished:
        game.live(Life(workers=(), death=None))
    game.leave()
    rounds.finish(this, world, drivers.project)
    this.violations += rounds.judged(world, reference, game.epochs_at_stake)
    this.violations += attempts_of_neighbours(world, game.hit.total())


def calm(world: World) -> None:
    """Run the same training in one process."""
    os.environ[ray_training.EPOCH_S] = "0"
    drivers.drive(world, InProcessEngine(), load(DataSpec(source="surrogate")))


def attempts_of_neighbours(world: World, num_killed: int) -> list[str]:
    """Return attempts that ended by a death, other than those whose process was killed.

    Counted and not matched by trial: a process that is killed as its trial ends may have been given
    the next one already.
    """
    died = checker.num_attempts(world.ledger, world.name, ("crash", "infrastructure"))
    if died > num_killed:
        return [f"{died} attempts ended with their process, of which {num_killed} were killed"]
    return []


class Game:
    """One running round."""

    def __init__(self, this: RayRound, world: World, address: str, chance: random.Random) -> None:
        self._this, self._world, self._chance = this, world, chance
        self._body: Callable[[World], None] = partial(search, address=address)
        self._slots = 1 if world.config.resources.cpu > 1 else 2
        self._log = world.home / "errors.txt"
        self._orphans: dict[int, float] = {}
        self._pid = 0
        self.epochs_at_stake = 0
        self.hit: Counter[str] = Counter()
        self.finished = False

    def live(self, life: Life) -> None:
        """Run one driver from its start to its end."""
        if self.finished:
            return
        self._pid = drivers.forked(self._world, self._body, life.fault, self._log)
        for moment in life.workers:
            if self._advance(self._chance.randint(2, 6)):
                self._kill_worker(moment)
        if life.death == "random" and self._advance(self._chance.randint(1, 6)):
            self._kill_driver("driver at a random moment")
        code = drivers.ended(self._pid, timeout_s=TIMEOUT_S)
        self._account(life, code)

    def leave(self) -> None:
        """Wait until every worker of a dead driver has ended."""
        while self._look_for_orphans():
            time.sleep(0.05)

    def _look_for_orphans(self) -> bool:
        """Record when workers of killed drivers end; return False once all have, or too late."""
        for pid, since in list(self._orphans.items()):
            took = time.monotonic() - since
            if not _runs(pid):
                self._this.took("workers gone after their driver", took)
            elif took > TIMEOUT_S:
                self._this.violations.append(f"worker {pid} is still there after {took:.0f} s")
            else:
                continue
            del self._orphans[pid]
        return bool(self._orphans)

    def _account(self, life: Life, code: int) -> None:
        world, this = self._world, self._this
        struck = world.struck.read_text().split() if world.struck.exists() else []
        world.struck.unlink(missing_ok=True)
        for line in struck:
            this.kills[f"driver at {line.rpartition(':')[0]}"] += 1
        if code == _KILLED:
            self.epochs_at_stake += self._slots
            self._orphans |= dict.fromkeys(self._workers(), time.monotonic())
        elif code not in {FINISHED, BY_THE_WORLD}:
            this.violations.append(f"a driver ended with {code}; see {self._log}")
        if life.fault is not None and not struck:
            this.kills["missed"] += 1
        self.finished = code == FINISHED

    def _kill_worker(self, moment: str) -> None:
        if moment in {"training", "kept"}:
            self._let_one_strike_itself(moment)
            return
        hit = self._strike_some(2 if moment == "two at once" else 1)
        if not hit:
            self._this.kills["missed"] += 1
        for uid in hit:
            self._was_hit(uid, "worker" if moment == "random" else f"worker, {moment}")
        if moment == "with its driver":
            self._kill_driver("driver with a worker")
            return
        for uid, before in hit.items():
            self._recovers(uid, before)

    def _strike_some(self, num: int) -> dict[str, Any]:
        """Kill workers, and return their trials with the last epoch of each."""
        pids = list(self._workers())
        self._chance.shuffle(pids)
        hit: dict[str, Any] = {}
        for pid in pids:
            if len(hit) == num:
                break
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # so that it cannot go over to another trial meanwhile
                uid = self._workers().get(pid, "")
                if uid and uid not in self._spared:
                    hit[uid] = checker.state_of(self._world.ledger, uid)
                    os.kill(pid, signal.SIGKILL)
                else:
                    os.kill(pid, signal.SIGCONT)
        return hit

    @property
    def _spared(self) -> set[str]:
        """Return trials that would rightly fail with one more death."""
        return {uid for uid, count in self.hit.items() if count >= _FORGIVEN}

    def _let_one_strike_itself(self, moment: str) -> None:
        strike = self._world.home / "strike"
        strike.with_suffix(".new").write_text(" ".join([moment, *self._spared]))
        strike.with_suffix(".new").rename(strike)
        began = time.monotonic()
        while strike.exists() and self._lives() and time.monotonic() - began < TIMEOUT_S:
            time.sleep(0.01)
        if strike.exists():
            strike.unlink(missing_ok=True)
            self._this.kills["missed"] += 1
            return
        uid = rounds.last_struck(self._world.home / "struck-workers.jsonl")
        self._was_hit(uid, f"worker, {moment}")
        self._recovers(uid, checker.state_of(self._world.ledger, uid))

    def _was_hit(self, uid: str, how: str) -> None:
        self._this.kills[how] += 1
        self.hit[uid] += 1
        self.epochs_at_stake += 1

    def _recovers(self, uid: str, before: Any) -> None:
        """Require that the trial of a killed worker is measured again, or ends, in time."""
        since = time.monotonic()
        while self._lives() and time.monotonic() - since < TIMEOUT_S:
            now = checker.state_of(self._world.ledger, uid)
            if now != before or now[1]:
                self._this.took("worker replaced", time.monotonic() - since)
                return
            time.sleep(0.05)
        if self._lives():
            self._this.violations.append(f"trial {uid} did not go on after its worker was killed")

    def _kill_driver(self, how: str) -> None:
        with suppress(ProcessLookupError):
            if self._lives():
                os.kill(self._pid, signal.SIGKILL)
                self._this.kills[how] += 1

    def _advance(self, num: int) -> bool:
        """Wait for further measurements; return False if the driver ended before."""
        goal = checker.num_measured(self._world.ledger, self._world.name) + num
        since = time.monotonic()
        while self._lives() and time.monotonic() - since < TIMEOUT_S:
            self._look_for_orphans()
            if checker.num_measured(self._world.ledger, self._world.name) >= goal:
                return self._lives()
            time.sleep(0.02)
        return False

    def _workers(self) -> dict[int, str]:
        """Return the processes that train now, with their trials."""
        folder = self._world.home / "workers"
        found = {int(path.name): path.read_text() for path in folder.glob("*")}
        return {pid: uid for pid, uid in found.items() if uid and _runs(pid)}

    def _lives(self) -> bool:
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
