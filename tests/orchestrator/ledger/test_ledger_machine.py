"""Any order of asks, reports, crashes and takeovers keeps the laws of a reference model."""

import json
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.ledger import (
    Holder,
    IllegalTransitionError,
    Lease,
    LeaseHeldError,
    LeaseLostError,
    Ledger,
    StaleAttemptError,
)
from orchestrator.trial import LEGAL_TRANSITIONS, Trial, TrialState
from workers.job import AttemptKey
from workers.measurement import CheckpointRef, Measurement

STATES = st.sampled_from(list(TrialState))
PICK = st.integers(min_value=0, max_value=100)


@dataclass
class _Model:
    """What one trial must look like."""

    uid: str
    state: TrialState = TrialState.WAITING
    keys: list[AttemptKey] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)
    """By epoch, the attempt that measured it."""
    final: tuple[Any, ...] | None = None
    """The row as it was when the trial ended."""


class LedgerMachine(RuleBasedStateMachine):
    """One study under everything that can happen to it, checked by plain SQL."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"
        shutil.copy(self.template, self.path)
        self.ledger = Ledger.open(self.path)
        self.turn = 0
        self.trials: list[_Model] = []
        self.lost: list[Lease] = []
        self.lease = self._take()

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def _take(self) -> Lease:
        self.turn += 1
        # No process has this start time: to the next driver this one is dead.
        holder = replace(Holder.of_this_process(), process_started=f"-{self.turn}")
        return self.ledger.open_study(name="s", config_json="{}", holder=holder)[1]

    def _trial(self, pick: int) -> _Model:
        return self.trials[pick % len(self.trials)]

    @rule(state=STATES)
    def add(self, state: TrialState) -> None:
        new = Trial(
            number=len(self.trials),
            uid=uuid.uuid4().hex,
            params={"n": len(self.trials)},
            distributions={},
            candidate={},
            digest="",
            seed=0,
            state=state,
            values=(1.0,) if state is TrialState.COMPLETE else None,
        )
        if state is TrialState.RUNNING:
            with pytest.raises(IllegalTransitionError):
                self.ledger.add_trial(self.lease, new)
            return
        self.ledger.add_trial(self.lease, new)
        self.trials.append(_Model(uid=new.uid, state=state))

    @precondition(lambda self: self.trials)
    @rule(pick=PICK)
    def start(self, pick: int) -> None:
        trial = self._trial(pick)
        if trial.state is not TrialState.WAITING:
            with pytest.raises(IllegalTransitionError):
                self.ledger.start_attempt(self.lease, trial.uid)
            return
        trial.keys.append(self.ledger.start_attempt(self.lease, trial.uid))
        trial.state = TrialState.RUNNING

    @precondition(lambda self: any(trial.keys for trial in self.trials))
    @rule(pick=PICK, which=PICK, epoch=st.integers(1, 3))
    def record(self, pick: int, which: int, epoch: int) -> None:
        trial, key = self._attempt(pick, which)
        seen = Measurement(
            fidelity=epoch,
            metrics={"by": float(key.number)},
            elapsed_s=1.0,
            checkpoint=CheckpointRef(path="p", manifest_sha256="m", bytes=1),
        )
        if trial.state is not TrialState.RUNNING or key != trial.keys[-1]:
            with pytest.raises(StaleAttemptError):
                self.ledger.record(self.lease, key, seen)
            return
        assert self.ledger.record(self.lease, key, seen) is (epoch not in trial.epochs)
        trial.epochs.setdefault(epoch, key.number)

    @precondition(lambda self: any(trial.keys for trial in self.trials))
    @rule(pick=PICK, which=PICK)
    def requeue(self, pick: int, which: int) -> None:
        trial, key = self._attempt(pick, which)
        if trial.state is not TrialState.RUNNING or key != trial.keys[-1]:
            with pytest.raises(StaleAttemptError):
                self.ledger.requeue(self.lease, key, "interrupted")
            return
        self.ledger.requeue(self.lease, key, "interrupted")
        trial.state = TrialState.WAITING

    @precondition(lambda self: self.trials)
    @rule(pick=PICK, which=st.none() | PICK, state=STATES)
    def finish(self, pick: int, which: int | None, state: TrialState) -> None:
        trial = self._trial(pick)
        key = trial.keys[which % len(trial.keys)] if trial.keys and which is not None else None
        newest = trial.keys[-1] if trial.state is TrialState.RUNNING else None
        legal = (
            state.is_terminal
            and state in LEGAL_TRANSITIONS[trial.state]
            and (newest is None or key == newest)
            and (key is None or key == trial.keys[-1])
        )
        outcome = {"state": state, "values": (0.5,) if state is TrialState.COMPLETE else None}
        if not legal:
            with pytest.raises((IllegalTransitionError, StaleAttemptError)):
                self.ledger.finish(self.lease, trial.uid, key=key, **outcome)
            return
        self.ledger.finish(self.lease, trial.uid, key=key, **outcome)
        trial.state = state

    def _attempt(self, pick: int, which: int) -> tuple[_Model, AttemptKey]:
        started = [trial for trial in self.trials if trial.keys]
        trial = started[pick % len(started)]
        return trial, trial.keys[which % len(trial.keys)]

    @rule(reopen=st.booleans())
    def driver_dies(self, reopen: bool) -> None:
        self.lost.append(self.lease)
        if reopen:
            self.ledger.close()
            self.ledger = Ledger.open(self.path)
        self.lease = self._take()
        for trial in self.trials:
            if trial.state is TrialState.RUNNING:
                trial.state = TrialState.WAITING

    @rule()
    def driver_leaves_and_another_comes(self) -> None:
        self.ledger.release(self.lease)
        self.driver_dies(reopen=False)

    @precondition(lambda self: self.lost and self.trials)
    @rule(pick=PICK, which=PICK)
    def a_lost_driver_wakes(self, pick: int, which: int) -> None:
        lost = self.lost[which % len(self.lost)]
        for write in (
            lambda: self.ledger.renew(lost),
            lambda: self.ledger.start_attempt(lost, self._trial(pick).uid),
            lambda: self.ledger.add_spent(lost, 1.0),
        ):
            with pytest.raises(LeaseLostError):
                write()

    @rule()
    def a_second_driver_tries_while_the_first_lives(self) -> None:
        alive = self.ledger.open_study(
            name="other", config_json="{}", holder=Holder.of_this_process()
        )[1]
        with pytest.raises(LeaseHeldError):
            self.ledger.open_study(name="other", config_json="{}", holder=Holder.of_this_process())
        self.ledger.release(alive)

    @invariant()
    def the_database_is_what_the_model_says(self) -> None:
        with closing(sqlite3.connect(self.path)) as database:
            rows = database.execute(
                "SELECT uid, state, attempts, trial.* FROM trial ORDER BY number"
            ).fetchall()
            assert [row[0] for row in rows] == [trial.uid for trial in self.trials]
            for trial, (uid, state, attempts, *row) in zip(self.trials, rows, strict=True):
                assert (state, attempts) == (trial.state, len(trial.keys))
                assert dict(_measured(database, uid)) == trial.epochs
                if trial.state.is_terminal:
                    trial.final = trial.final or tuple(row)
                    assert trial.final == tuple(row)
            outcome = database.execute(
                "SELECT payload_json FROM event WHERE kind = 'trial_finished'"
            ).fetchall()
            ended = [json.loads(payload)["uid"] for (payload,) in outcome]
            assert sorted(ended) == sorted(t.uid for t in self.trials if t.state.is_terminal)
            assert _generations_rise(database)


def _measured(database: sqlite3.Connection, uid: str) -> Iterator[tuple[int, int]]:
    query = (
        "SELECT epoch, attempt, metrics_json FROM measurement JOIN checkpoint "
        "USING (trial_uid, epoch) WHERE trial_uid = ?"
    )
    for epoch, attempt, metrics in database.execute(query, (uid,)):
        assert json.loads(metrics) == {"by": attempt}
        yield epoch, attempt


def _generations_rise(database: sqlite3.Connection) -> bool:
    """Whether no driver wrote after a younger driver had: the check of an outsider."""
    query = "SELECT generation FROM event WHERE study_id = ? ORDER BY id"
    found = [generation for (generation,) in database.execute(query, (1,))]
    return found == sorted(found)


def test_every_order_of_events_keeps_the_invariants(tmp_path: Path) -> None:
    LedgerMachine.template = tmp_path / "template.db"
    Ledger.open(LedgerMachine.template).close()
    run = settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(LedgerMachine, settings=run)
