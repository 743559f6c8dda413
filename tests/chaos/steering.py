"""Rounds in which a user steers a study whose driver, and whose commands, are killed.

The user extends the study, adds designs and stops trials while a driver runs, and while none does.
When is a matter of chance, so the study is compared with no other; the checker adds up what was
requested instead.
"""

import json
import random
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import drivers
import rounds
from drivers import BY_THE_WORLD, EPOCHS, FINISHED, World, note
from support import checker, request_checker
from support.studies import BRANCHING

import orchestrator.study.driver
from orchestrator.commands.steer import requesting
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError
from orchestrator.ledger import LeaseHeldError, Ledger
from orchestrator.study.requests import edit_effect
from orchestrator.study.requests.edit import EDIT
from orchestrator.study.requests.enqueue import ENQUEUE, to_payload
from orchestrator.study.requests.extend import EXTEND
from orchestrator.study.requests.stop import STOP
from search_spaces.designs import Design

_KILLED = -9
_OF_DRIVER = (
    "answered.uncommitted",
    "answered.committed",
    "designs.completed",
    "trial_added.committed",
    "attempt_started.committed",
    "finished.uncommitted",
    "state_set.committed",
    "lease_released.uncommitted",
)
_OF_COMMAND = (
    "asked.uncommitted",
    "asked.committed",
    "answered.uncommitted",
    "answered.committed",
    "study_opened.committed",
    "lease_released.uncommitted",
)
_MOMENTS_S = (0.1, 0.8)
_POLL_INTERVAL_S = 0.02
_MAX_REQUESTS = 6
_TIMEOUT_S = 120.0


@dataclass(slots=True, kw_only=True)
class SteeredRound(rounds.Played):
    """A round with a user."""

    num_kills: int
    requests: Counter[str] = field(default_factory=Counter)
    """Requests by kind, refused ones apart."""

    def to_dict(self) -> dict[str, Any]:
        return {**rounds.Played.to_dict(self), "requests": dict(self.requests)}


def plan(*, kills: int, databases: list[str], per_round: int = 6) -> list[SteeredRound]:
    """Divide the kills among rounds, on the databases in turn."""
    return [
        SteeredRound(
            number=number,
            database=databases[number % len(databases)],
            num_kills=min(per_round, kills - number * per_round),
        )
        for number in range(-(-kills // per_round))
    ]


def play(this: SteeredRound, world: World, store: Path, chance: random.Random) -> None:
    """Kill drivers and commands until the round has its kills, then let all finish, and judge."""
    shutil.copy(store, world.home / "mlflow.db")
    rounds.finish(this, world, create)
    if chance.random() < 0.5:  # an ended search has pruned trials, which may be continued
        rounds.finish(this, world, search)
    epochs_lost, ended, lives = 0, {}, 0
    while sum(this.kills.values()) < this.num_kills and lives < 3 * this.num_kills:
        lives += 1
        epochs_lost += _live(this, world, chance)
        now = request_checker.ended_trials(world.ledger, world.name)
        this.violations += request_checker.of_ended(ended, now)
        ended = now
    rounds.finish(this, world, search)
    rounds.finish(this, world, drivers.project)
    now = request_checker.ended_trials(world.ledger, world.name)
    this.violations += request_checker.of_ended(ended, now) + judged(world, epochs_lost)
    this.requests.update(request_checker.num_by_kind(world.ledger, world.name))


def judged(world: World, epochs_lost: int) -> list[str]:
    """Return all violations in a finished study, checked without the product's code."""
    ledger, name = world.ledger, world.name
    requested = request_checker.num_requested(ledger, name, drivers.FIRST_TRIALS)
    return [
        *checker.of_ledger(ledger, name, requested, EPOCHS),
        *request_checker.of_steering(ledger, name, requested, _notes(world)),
        *checker.of_requests(ledger, name),
        *rounds.losses(world, epochs_lost),
        *checker.of_mlflow(world.home / "mlflow.db", ledger, name),
    ]


def create(world: World) -> None:
    """Create the study, without a trial."""
    with Ledger.open(world.url) as ledger:
        _, lease = drivers.open_study(ledger, world)
        ledger.release(lease)


def search(world: World) -> None:
    """Run the study until it is finished and no request is open, as repeated resumes do."""
    patched = mock.patch.object(orchestrator.study.driver, "_POLL_INTERVAL_S", _POLL_INTERVAL_S)
    with patched, same_space():
        while True:
            try:
                drivers.search(world)
            except LeaseHeldError:  # a command answers requests
                time.sleep(_POLL_INTERVAL_S)
            else:
                if not checker.of_requests(world.ledger, world.name):
                    return


@contextmanager
def same_space() -> Iterator[None]:
    """Let edits find the space, which is in no file."""
    with (
        mock.patch.object(edit_effect, "user_code", return_value=None),
        mock.patch.object(edit_effect, "study_space", return_value=BRANCHING),
    ):
        yield


def steer(world: World, seed: int) -> None:
    """Request a few things at random moments, as commands do, and note what they answer."""
    chance = random.Random(seed)
    with (
        mock.patch.object(requesting, "_POLL_INTERVAL_S", _POLL_INTERVAL_S),
        same_space(),
        Ledger.open(world.url) as ledger,
    ):
        for _ in range(chance.randint(1, _MAX_REQUESTS)):
            time.sleep(chance.uniform(0, 0.1))
            kind, payload = _anything(ledger, world, chance)
            said = {"kind": kind, "operation": payload.get("operation", "")}
            note(_file(world), json.dumps(said))
            answer = _submitted(ledger, world, kind, payload)
            note(_file(world), json.dumps({**said, "answer": answer}))


def _anything(ledger: Ledger, world: World, chance: random.Random) -> tuple[str, dict[str, Any]]:
    kind = chance.choice((EXTEND, EXTEND, ENQUEUE, ENQUEUE, STOP, EDIT))
    operation = uuid.UUID(int=chance.getrandbits(128)).hex
    if kind == EXTEND:
        return kind, {"trials": chance.randint(1, 3), "operation": operation}
    if kind == STOP:
        row = ledger.study(world.name)
        known = ledger.trials(row.id) if row else []
        open_ones = [trial.number for trial in known if not trial.state.is_terminal]
        return kind, {"trial": chance.choice(open_ones or [0])}
    if kind == EDIT:
        return kind, _edit(ledger, world, chance)
    params: dict[str, Any] = {"kind": chance.choice(("flat", "steep"))}
    if chance.random() < 0.5:
        params["rate"] = chance.choice((0.001, 0.01, 0.1))  # equal designs are refused
    return kind, to_payload([Design(params=params, base={})], operation)


def _edit(ledger: Ledger, world: World, chance: random.Random) -> dict[str, Any]:
    """Return an edit of a target beyond reach, from the value that the study has now."""
    row = ledger.study(world.name)
    assert row is not None
    now = StudyConfig.from_json(row.config_json).stop.target
    changes = {"stop.target": [now, chance.choice((2.0, 3.0, 4.0))]}
    return {"changes": changes, "space": ["branching", "1"], "code_digest": None}


def _submitted(ledger: Ledger, world: World, kind: str, payload: Mapping[str, Any]) -> Any:
    row = ledger.study(world.name)
    assert row is not None
    try:
        return requesting.submit(ledger, row, kind, payload).answer
    except CommandError:  # refused; the checker reads the answer in the ledger
        return None


def _live(this: SteeredRound, world: World, chance: random.Random) -> int:
    """Run a driver, a user or both, and kill one or both; return 1 if it may cost an epoch."""
    seed, victims = chance.getrandbits(32), chance.choice(("driver", "user", "both"))
    has_driver = victims != "user" or chance.random() < 0.5
    bodies = {"driver": search, "user": lambda world: steer(world, seed)}
    points = {"driver": _OF_DRIVER, "user": _OF_COMMAND}
    pids, faults = {}, {}
    for who in ("driver", "user") if has_driver else ("user",):
        faults[who] = None
        if victims in {who, "both"} and chance.random() < 0.5:
            faults[who] = f"{chance.choice(points[who])}:1:kill"
        pids[who] = drivers.forked(world, bodies[who], faults[who], world.home / "errors.txt")
    cost = 0
    for who, pid in pids.items():
        at_random = victims in {who, "both"} and faults[who] is None
        after_s = chance.uniform(*_MOMENTS_S) if at_random else None
        code = drivers.ended(pid, kill_after_s=after_s, timeout_s=_TIMEOUT_S)
        if code == _KILLED and (faults[who] or at_random):
            this.kills[f"{who} at {(faults[who] or 'random').partition(':')[0]}"] += 1
        elif code not in {FINISHED, BY_THE_WORLD}:
            this.violations.append(f"the {who} that met {faults[who]} ended with {code}")
        cost += who == "driver" and code != FINISHED
    return cost


def _file(world: World) -> Path:
    """Return the file of what the user requested and was answered."""
    return world.home / "requested.jsonl"


def _notes(world: World) -> list[Any]:
    path = _file(world)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
