"""Whatever answer is lost on its way, each write takes effect once: against a run without faults.

A fault is an answer lost before or after the COMMIT has taken effect: on both databases injected at
the call, on PostgreSQL also by cutting the TCP connection around it.
"""

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.servers import Line

from orchestrator.ledger import Effect, Holder, Lease, Ledger, LedgerError, LedgerUnavailableError
from orchestrator.ledger.database import Database
from orchestrator.trial import Trial, TrialState
from workers.job import AttemptKey
from workers.measurement import CheckpointRef, Measurement

Arm = Callable[[str | None], None]


class Player:
    """Plays one study; what it does next follows from the answers that it got."""

    def __init__(self, ledger: Ledger, arm: Arm) -> None:
        self.ledger, self._arm = ledger, arm
        self.name = f"player-{uuid.uuid4().hex}"
        self.uids: list[str] = []
        self.waiting: list[str] = []
        self.running: dict[str, tuple[AttemptKey, int]] = {}
        self.complete: list[str] = []
        self.asked = 0
        self.lease = self._opened("{}")

    def _opened(self, config_json: str | None = None) -> Lease:
        holder = Holder.of_this_process()
        return self.ledger.open_study(name=self.name, config_json=config_json, holder=holder)[1]

    def play(self, kind: str, fault: str | None) -> None:
        """Does one write; says it again where it was answered that nothing was written."""
        while True:
            self._arm(fault)
            try:
                getattr(self, kind)()
            except LedgerUnavailableError:
                fault = None
            else:
                return
            finally:
                self._arm(None)

    def add(self) -> None:
        new = self._new(len(self.uids))
        assert self.ledger.add_trial(self.lease, new).number == new.number
        self.uids.append(new.uid)
        self.waiting.append(new.uid)

    def _new(self, number: int) -> Trial:
        return Trial(
            number=number,
            uid=f"{self.name[-16:]}{number:016x}",
            params={"n": number},
            distributions={},
            candidate={},
            digest="d",
            seed=0,
        )

    def start(self) -> None:
        if self.waiting:
            key = self.ledger.start_attempt(self.lease, self.waiting[0])
            self.running[self.waiting.pop(0)] = (key, 0)

    def record(self) -> None:
        for uid, (key, epoch) in self.running.items():
            assert self.ledger.record(self.lease, key, _seen(epoch + 1)) is True or key.number > 1
            self.running[uid] = (key, epoch + 1)

    def record_again(self) -> None:
        for key, epoch in self.running.values():
            if epoch:
                assert self.ledger.record(self.lease, key, _seen(epoch)) is False

    def requeue(self) -> None:
        for uid, (key, _) in list(self.running.items())[:1]:
            self.ledger.requeue(self.lease, key, "interrupted")
            del self.running[uid]
            self.waiting.append(uid)

    def finish(self) -> None:
        for uid, (key, _) in list(self.running.items())[:1]:
            outcome = {"state": TrialState.COMPLETE, "values": (0.5,)}
            assert self.ledger.finish(self.lease, uid, key=key, **outcome).uid == uid
            del self.running[uid]
            self.complete.append(uid)

    def spend(self) -> None:
        self.ledger.add_spent(self.lease, 1.0)

    def renew(self) -> None:
        assert self.ledger.renew(self.lease).generation == self.lease.generation

    def say_state(self) -> None:
        self.ledger.set_study_state(self.lease, "interrupted")

    def release(self) -> None:
        self.ledger.release(self.lease)

    def open(self) -> None:
        """After `release`: what runs waits again."""
        generation = self.lease.generation
        self.lease = self._opened()
        assert self.lease.generation == generation + 1
        self.waiting += self.running
        self.running.clear()

    def ask(self) -> None:
        study = self.lease.study_id
        self.ledger.add_request(study, "extend", {"operation": self.asked})
        self.asked += 1

    def answer(self) -> None:
        for request in self.ledger.requests(self.lease.study_id)[:1]:
            number = len(self.uids)
            effect = Effect(
                answer={"added": number},
                changes={"config_json": f'{{"trials":{number}}}'},
                added=[self._new(number)],
                ended=self.waiting[:1],
            )
            assert self.ledger.carry_out(self.lease, request.id, effect)
            assert not self.ledger.carry_out(self.lease, request.id, effect)
            self.waiting = [*self.waiting[1:], self._new(number).uid]
            self.uids.append(self._new(number).uid)

    def show(self) -> None:
        study = self.lease.study_id
        self.ledger.advance(study, self.ledger.events(study, 0, 10_000)[-1].id)

    def rewind(self) -> None:
        self.ledger.rewind(self.lease.study_id)

    def promote(self) -> None:
        if self.complete:
            given = {"study_id": self.lease.study_id, "trial_uid": self.complete[0]}
            promotions, holder = self.ledger.promotions, Holder.of_this_process()
            promotions.begin(self.name, **given, model=self.name, alias="a", holder=holder)

    def claim(self) -> None:
        promotions, holder = self.ledger.promotions, Holder.of_this_process()
        if any(each.operation == self.name for each in promotions.all()):
            moves = promotions.moves(self.name, "a")
            promotions.claim(self.name, holder, expected_version=None, moves=moves)
            promotions.advance(self.name, holder, "tested")

    def story(self) -> list[Any]:
        """All rows of the study, without what differs between the two: names, uids, times, ids."""
        study = self.lease.study_id
        found: list[Any] = [
            (t.number, t.state, t.attempts, t.values, [m.fidelity for m in t.measurements])
            for t in self.ledger.trials(study)
        ]
        for uid in self.uids:
            found += [(a.number, a.outcome) for a in self.ledger.attempts(uid)]
            found += [kept.path for kept in self.ledger.checkpoints(uid)]
        events = self.ledger.events(study, 0, 10_000)
        cursor = self.ledger.cursor(study)
        found += [(e.kind, _plain(e.payload), e.id <= cursor) for e in events]
        row = self.ledger.study(self.name)
        assert row is not None
        promoted = [p for p in self.ledger.promotions.all() if p.operation == self.name]
        found += [(p.state, self.ledger.promotions.moves(self.name, "a")) for p in promoted]
        return [*found, row.state, row.spent_s, row.config_json]


def _plain(payload: Any) -> str:
    names = {"uid", "parent", "trial", "name", "operation", "model", "request"}
    return json.dumps({k: v for k, v in payload.items() if k not in names}, sort_keys=True)


def _seen(epoch: int) -> Measurement:
    kept = CheckpointRef(path=f"/c/{epoch}", manifest_sha256="a", bytes=1)
    return Measurement(fidelity=epoch, metrics={"a": 1.0}, elapsed_s=1.0, checkpoint=kept)


KINDS = (
    "add",
    "start",
    "record",
    "record_again",
    "requeue",
    "finish",
    "spend",
    "renew",
    "say_state",
    "ask",
    "answer",
    "leave_and_come",
    "show",
    "rewind",
    "promote",
    "claim",
)
"""Every write there is, deleting aside, which has a test of its own."""

ALL = ("add", "start", *KINDS)
"""A play in which each of them has something to do."""


def playing(player: Player, kind: str, fault: str | None) -> None:
    for part in ("release", "open") if kind == "leave_and_come" else (kind,):
        player.play(part, fault)


@contextmanager
def losing(ledger: Ledger) -> Iterator[Arm]:
    """A ledger whose next write loses its answer when armed: before or after it took effect."""
    database = ledger._database
    dialect = database._engine.dialect
    commit, write = dialect.do_commit, database.write
    asked: list[str] = []
    armed: list[str] = []

    def arm(fault: str | None) -> None:
        asked[:] = [fault] if fault else []

    def arming(work: Callable[[Any], Any]) -> Any:
        def done(tx: Any) -> Any:
            made = work(tx)
            # Only now, so that no earlier commit of this call takes the fault.
            armed[:] = asked
            asked.clear()
            return made

        return write(done)

    def commit_or_lose(connection: Any) -> None:
        if not armed:
            commit(connection)
            return
        if armed.pop() == "after":
            commit(connection)
        if dialect.name == "sqlite":
            raise sqlite3.OperationalError("disk I/O error")
        connection.dbapi_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    dialect.do_commit, database.write = commit_or_lose, arming  # type: ignore[method-assign]
    try:
        yield arm
    finally:
        del dialect.do_commit, database.write


def _without_faults(_fault: str | None) -> None:
    """For the run without faults."""


def pair(ledger: Ledger, arm: Arm, play: list[tuple[str, str | None]]) -> tuple[Any, Any]:
    """What the play comes to with its faults, and without."""
    hurt, calm = Player(ledger, arm), Player(ledger, _without_faults)
    for kind, fault in play:
        playing(hurt, kind, fault)
        playing(calm, kind, None)
    return hurt.story(), calm.story()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Ledger]:
    url = tmp_path / "ledger.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
    with Ledger.open(url) as opened:
        yield opened


FAULTS = st.sampled_from([None, "before", "after"])


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.sampled_from(KINDS), FAULTS), max_size=12))
def test_any_order_of_writes_with_lost_answers_equals_the_one_without(
    ledger: Ledger, play: list[tuple[str, str | None]]
) -> None:
    with losing(ledger) as arm:
        hurt, calm = pair(ledger, arm, [("add", "after"), ("start", "before"), *play])
    assert hurt == calm


@pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)  # on PostgreSQL by a line, below
@pytest.mark.parametrize("fault", ["before", "after"])
def test_every_kind_of_write_survives_a_lost_answer(ledger: Ledger, fault: str) -> None:
    with losing(ledger) as arm:
        hurt, calm = pair(ledger, arm, [(kind, fault) for kind in ALL])
    assert hurt == calm
    kinds = {each[0] for each in calm if isinstance(each, tuple)}
    assert kinds >= {"trial_given_back", "trial_finished", "promotion"}


@pytest.mark.parametrize("kind", ["add", "start", "spend"])
def test_without_the_lookup_of_the_operation_the_ledgers_differ(
    ledger: Ledger, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "_was_committed", lambda *_: False)
    play = [("add", None), ("start", None), ("record", None), ("add", None), (kind, "after")]
    with losing(ledger) as arm:
        try:
            hurt, calm = pair(ledger, arm, play)
        except (LedgerError, AssertionError):
            return  # refused: its first try had taken effect
    assert hurt != calm


@pytest.mark.parametrize("ledger", ["postgresql"], indirect=True)
def test_a_deletion_whose_answer_was_lost_is_not_taken_for_an_unknown_study(
    ledger: Ledger,
) -> None:
    with losing(ledger) as arm:
        player = Player(ledger, arm)
        ledger.release(player.lease)
        arm("after")
        ledger.delete_study(player.name, Holder.of_this_process())
    assert ledger.study(player.name) is None


@pytest.mark.parametrize("when", ["before", "after", "late"])
def test_a_connection_cut_around_a_commit_loses_and_repeats_no_write(
    postgresql: str, when: str
) -> None:
    line = Line(_socket(postgresql))
    try:
        with Ledger.open(line.url) as ledger:
            hurt, calm = pair(
                ledger,
                lambda fault: None if fault is None else line.cut_next_commit(fault),
                [(kind, when) for kind in ALL],
            )
    finally:
        line.close()
    assert hurt == calm
    assert line.cuts >= len(ALL)


def _socket(url: str) -> Path:
    return Path(url.partition("host=")[2]) / ".s.PGSQL.5432"
