"""Rounds: one study each, killed repeatedly, finished by its successors, then checked."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import drivers
from drivers import BY_THE_WORLD, EPOCHS, FINISHED, TRIALS, World
from support import checker

ASKED = {"stop": {"trials": drivers.FIRST_TRIALS}}
"""Keys of the config of a study in a round."""

Body = Callable[[World], None]
"""Body of a process in a world."""

_KILLED = -9
_MOMENTS_S = (0.01, 0.15)

SEARCH_POINTS = (
    "designs.completed",
    "proposal.drawn",
    "study_opened.uncommitted",
    "study_opened.committed",
    "config_set.uncommitted",
    "config_set.committed",
    "trial_added.uncommitted",
    "trial_added.committed",
    "attempt_started.uncommitted",
    "attempt_started.committed",
    "checkpoint.writing",
    "checkpoint.syncing",
    "checkpoint.written",
    "checkpoint.renamed",
    "recorded.uncommitted",
    "recorded.committed",
    "finished.uncommitted",
    "finished.committed",
    "lease_renewed.uncommitted",
    "lease_renewed.committed",
    "spent_added.uncommitted",
    "spent_added.committed",
    "state_set.uncommitted",
    "state_set.committed",
    "lease_released.uncommitted",
    "lease_released.committed",
    "answered.uncommitted",
    "answered.committed",
)
ASK_POINTS = ("asked.uncommitted", "asked.committed")
SHOW_POINTS = (
    "experiment.created",
    "parent.opened",
    "run.created",
    "run.unsent",
    "run.sent",
    "run.ended",
    "events.shown",
    "cursor_advanced.uncommitted",
    "cursor_advanced.committed",
    "cursor_rewound.uncommitted",
    "cursor_rewound.committed",
)
POINTS = SEARCH_POINTS + ASK_POINTS + SHOW_POINTS
ERROR_POINTS = (
    "checkpoint.writing:ENOSPC",
    "checkpoint.syncing:EIO",
    "recorded.uncommitted:ENOSPC",
    "trial_added.uncommitted:EIO",
)
_ONCE = frozenset(
    {"study_opened", "experiment", "parent", "events", "cursor_advanced", "cursor_rewound"}
    | {"config_set", "lease_renewed", "spent_added", "state_set", "lease_released"}
    | {"answered", "asked", "designs"}
)
"""Parts that a process passes once; it passes the others often."""

_FORGIVEN = 1
"""Deaths in a row after which the next comes once the trial has a new epoch: a third would end it,
as it should."""
_PROGRESS = "recorded.committed:1:kill"

_EARLY = ("designs",)
"""Passed once in a study: these are injected first."""
_LATE = ("lease_renewed", "spent_added", "state_set", "lease_released", "answered")
"""Passed at the end of a search: these are injected last, or nothing is left for the others."""


@dataclass(slots=True, kw_only=True)
class Played:
    """A round of any kind, with its results."""

    number: int
    database: str
    kills: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "database": self.database,
            "kills": dict(self.kills),
            "violations": self.violations,
        }


@dataclass(slots=True, kw_only=True)
class Round(Played):
    """A round of drivers in process."""

    faults: list[str | None]
    """One for each process to kill; None kills at a random moment."""


def plan(*, kills: int, seed: int, databases: list[str], per_round: int = 8) -> list[Round]:
    """Half of the kills at named points, every one in turn; the other half at random moments."""
    chance = random.Random(seed)
    at_points = [POINTS[index % len(POINTS)] for index in range((kills + 1) // 2)]
    chance.shuffle(at_points)
    faults: list[str | None] = [_at(point, "kill", chance) for point in at_points]
    faults += [None] * (kills // 2)
    chance.shuffle(faults)
    groups = [faults[start : start + per_round] for start in range(0, kills, per_round)]
    return [
        Round(
            number=number,
            database=databases[number % len(databases)],
            faults=[*group, _at(ERROR_POINTS[number % len(ERROR_POINTS)], "", chance)],
        )
        for number, group in enumerate(groups)
    ]


def _at(point: str, kind: str, chance: random.Random) -> str:
    name, _, error = point.partition(":")
    nth = 1 if name.partition(".")[0] in _ONCE else chance.randint(1, 4)
    return f"{name}:{nth}:{error or kind}"


def play(this: Round, world: World, store: Path, chance: random.Random) -> None:
    """Run a round and record its results."""
    reference = uninterrupted(world, store, drivers.search_and_extend)
    epochs_lost = 0
    showing = [f for f in this.faults if f is not None and f.startswith(_of(SHOW_POINTS))]
    asking = [f for f in this.faults if f is not None and f.startswith(_of(ASK_POINTS))]
    searching = [f for f in this.faults if f not in showing and f not in asking]
    showing.sort(key=lambda f: SHOW_POINTS.index(f.partition(":")[0]))
    searching.sort(key=lambda f: f is not None and f.startswith(_LATE) - f.startswith(_EARLY))
    for fault in searching:
        if fault is not None and fault.startswith("answered"):
            finish(this, world, drivers.ask)
        epochs_lost += _strike(this, world, drivers.search_and_extend, fault, chance)
        if checker.losses(world.ledger, world.name) > _FORGIVEN:
            epochs_lost += _strike(this, world, drivers.search_and_extend, _PROGRESS, chance)
    for fault in asking:
        _strike(this, world, drivers.ask, fault, chance)
    finish(this, world, drivers.search_and_extend)
    for fault in showing:
        resync = fault.startswith("cursor_rewound")
        _strike(this, world, drivers.rewind if resync else drivers.project, fault, chance)
    finish(this, world, drivers.project)
    this.violations += judged(world, reference, epochs_lost)


def _of(points: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{point}:" for point in points)


def uninterrupted(world: World, store: Path, body: Body) -> list[Any]:
    """Return the history of the same study without any fault, on its own SQLite ledger.

    Gives the world its empty MLflow, too.
    """
    shutil.copy(store, world.home / "mlflow.db")
    home = world.home / "reference"
    home.mkdir()
    calm = replace(world, home=home, url=f"sqlite:///{home / 'ledger.db'}")
    assert drivers.ended(drivers.forked(calm, body, None, home / "log")) == FINISHED
    return checker.story(home / "ledger.db", world.name)


def _strike(this: Round, world: World, body: Body, fault: str | None, chance: random.Random) -> int:
    """Run one process to its fault; return 1 if that may have cost an epoch."""
    log = world.home / "errors.txt"
    pid = drivers.forked(world, body, fault, log)
    code = drivers.ended(pid, kill_after_s=chance.uniform(*_MOMENTS_S) if fault is None else None)
    struck = world.struck.read_text().splitlines() if world.struck.exists() else []
    world.struck.unlink(missing_ok=True)
    for line in struck:
        point, _, kind = line.partition(":")
        this.kills[point if kind == "kill" else line] += 1
    if fault is None and code == _KILLED:
        this.kills["random"] += 1
    if code not in {_KILLED, FINISHED, BY_THE_WORLD}:
        this.violations.append(f"a process that met {fault} ended with {code}; see {log}")
    if (fault is None and code == FINISHED) or (fault is not None and not struck):
        this.kills["missed"] += 1
    return int(code != FINISHED or bool(struck))


def finish(this: Any, world: World, body: Body) -> None:
    """Run a process that must finish the rest."""
    log = world.home / "errors.txt"
    code = drivers.ended(drivers.forked(world, body, None, log))
    if code != FINISHED:
        this.violations.append(f"{body} without a fault ended with {code}; see {log}")


def judged(world: World, reference: list[Any], epochs_lost: int) -> list[str]:
    """Return all violations, checked without the product's code."""
    ledger = world.ledger
    found = checker.of_ledger(ledger, world.name, TRIALS, EPOCHS)
    found += checker.of_requests(ledger, world.name)
    if checker.story(ledger, world.name) != reference:
        found.append("the study is not the one that an uninterrupted search gives")
    found += losses(world, epochs_lost)
    found += checker.of_mlflow(world.home / "mlflow.db", ledger, world.name)
    return found


def losses(world: World, epochs_lost: int) -> list[str]:
    """Return acknowledged writes that are gone, and epochs that were trained needlessly."""
    notes = [json.loads(line) for line in world.notes.read_text().splitlines()]
    found = checker.of_acknowledged(world.ledger, notes)
    done = Counter(world.work.read_text().splitlines())
    again = sum(done.values()) - len(done)
    if again > epochs_lost:
        found.append(f"{again} epochs were trained twice after {epochs_lost} faults")
    return found


def last_struck(path: Path) -> str:
    """Return the trial whose worker killed itself last, by its own note."""
    return str(json.loads(path.read_text().splitlines()[-1])["uid"])
