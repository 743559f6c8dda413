"""Any order of requests, kills and resumes keeps the promises of the reliability contract."""

import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import request_checker
from support.studies import BRANCHING, Dying, Killed, branching, config, quality

from orchestrator.commands.steer import requesting
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError
from orchestrator.ledger import Holder, LeaseHeldError, Ledger, StudyRow
from orchestrator.snapshot import Verdict
from orchestrator.study.driver import StudyDriver
from orchestrator.study.requests.edit import EDIT
from orchestrator.study.requests.enqueue import ENQUEUE, to_payload
from orchestrator.study.requests.extend import EXTEND
from orchestrator.study.requests.pause import PAUSE
from orchestrator.study.requests.stop import STOP
from orchestrator.trial import Trial
from search_spaces.designs import Design
from search_spaces.space import DefineByRunSpace
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.storage import LocalFolder

FIRST_TRIALS = 3
STUDY = config(
    stop={"trials": FIRST_TRIALS},
    sampler={"name": "random"},
    budget={"minimum": 1, "maximum": 4, "reduction_factor": 2},
)
MAXIMA = (4, 8)
WRITES = frozenset(
    {"add_trial", "start_attempt", "record", "finish", "requeue", "carry_out"}
    | {"add_request", "open_study", "set_study_state", "release", "add_spent"}
)
PICK = st.integers(0, 100)


def with_third_kind(trial: Any) -> dict[str, Any]:
    """The space with another choice."""
    if trial.suggest_categorical("kind", ["flat", "steep", "wavy"]) != "wavy":
        return branching(trial)
    return {"kind": "wavy", "rate": trial.suggest_float("rate", 1e-4, 1.0, log=True), "depth": 0}


SPACES = {
    "branching.py:branching": BRANCHING,
    "branching.py:third": DefineByRunSpace(name="third", version="1", function=with_third_kind),
}


def measured(job: TrainingJob, epoch: int) -> Measurement:
    """A curve that does not depend on the budget."""
    value = quality(dict(job.candidate["decisions"])) * (1 - 1 / (1 + epoch))
    metrics = {"val_accuracy": value, "val_loss": 1 - value}
    return Measurement(fidelity=epoch, metrics=metrics, elapsed_s=float(epoch))


@dataclass
class Running:
    """An attempt in a worker."""

    job: TrainingJob
    epoch: int = 0


class SteeringMachine(RuleBasedStateMachine):
    """One study under everything that its user and its machine can do to it."""

    template: Path
    dead: set[str]
    """Start times of the processes that were killed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"
        shutil.copy(self.template, self.path)
        self.ledger = Ledger.open(self.path)
        self.dead.clear()
        self.turn = 0
        self.study: StudyDriver | None = None
        self.mortal: Any = None
        self.running: list[Running] = []
        self.replaced: list[tuple[StudyDriver, Running]] = []
        self.notes: list[dict[str, Any]] = []
        self.seen: dict[tuple[str, int], Any] = {}
        self.ended: dict[str, Any] = {}
        self.fixed: list[Any] = []

    def teardown(self) -> None:
        try:
            self.finish()
            assert self.ledger.requests(1) == []
            assert all(trial.state.is_terminal for trial in self.ledger.trials(1))
            started = [t for t in self.ledger.trials(1) if t.kind == "search" and t.attempts]
            assert len(started) == self._stored().stop.trials
        finally:
            self.ledger.close()
            self.folder.cleanup()

    # The driver

    @rule()
    def resume(self) -> None:
        holder = replace(Holder.of_this_process(), process_started=f"driver {self.turn}")
        self.turn += 1
        if self.study is not None:
            with pytest.raises(LeaseHeldError):
                self._open(holder)
            return
        self.mortal = Dying(self.ledger, after=10**9, acknowledged=True)
        self.mortal.writes = WRITES
        row, lease = self._open(holder)
        stored = self._stored()
        self.study = StudyDriver(
            record=row,
            config=stored,
            ledger=self.mortal,
            lease=lease,
            space=SPACES[str(stored.space)],
            task=None,
            checkpoints_dir=LocalFolder(Path(self.folder.name) / "checkpoints"),
        )
        self._unless_killed(self.study.__enter__)

    @rule(attempts=st.integers(1, 6), after=st.integers(0, 30), acknowledged=st.booleans())
    def search(self, attempts: int, after: int, acknowledged: bool) -> None:
        """Run some attempts, or all; the driver dies at one of its writes, if any."""
        if self.study is None:
            self.resume()
        if after:
            self.mortal._left, self.mortal._acknowledged = after, acknowledged
        self._unless_killed(lambda: self._search(attempts))

    @precondition(lambda self: self.study is not None)
    @rule()
    def kill(self) -> None:
        assert self.study is not None
        self.replaced += [(self.study, each) for each in self.running]
        self._bury()

    @precondition(lambda self: self.study is not None and self.replaced)
    @rule(pick=PICK)
    def replaced_driver_reports(self, pick: int) -> None:
        """A driver that only seemed dead writes nothing after its successor."""
        study, attempt = self.replaced.pop(pick % len(self.replaced))
        before = self.ledger.trials(1)
        assert study.report(attempt.job.key, measured(attempt.job, 1)) is not Verdict.CONTINUE
        study.tell(attempt.job.key)
        assert self.ledger.trials(1) == before

    @precondition(lambda self: self.study is not None and len(self.running) < 2)
    @rule()
    def ask(self) -> None:
        assert self.study is not None
        job = self._unless_killed(self.study.ask)
        if job is not None:
            self.running.append(Running(job))

    @precondition(lambda self: self.running)
    @rule(pick=PICK, epochs=st.integers(1, 9))
    def train(self, pick: int, epochs: int) -> None:
        self._unless_killed(lambda: self._train(self.running[pick % len(self.running)], epochs))

    @precondition(lambda self: self.running)
    @rule(pick=PICK)
    def lose_worker(self, pick: int) -> None:
        assert self.study is not None
        requeue, attempt = self.study.requeue, self.running.pop(pick % len(self.running))
        self._unless_killed(lambda: requeue(attempt.job.key))

    def finish(self) -> None:
        """Resume until there is nothing to do."""
        for _ in range(10):
            if self.study is None:
                self.resume()
            self._unless_killed(lambda: self._search(1000))
            if self._row().state == "finished" and not self.ledger.requests(1):
                return
        pytest.fail(f"never finished: {self._row()}, {self.ledger.requests(1)}")

    # The user

    @rule(trials=st.integers(1, 2), after=st.integers(0, 4), acknowledged=st.booleans())
    def extend(self, trials: int, after: int, acknowledged: bool) -> None:
        payload = {"trials": trials, "operation": uuid.uuid4().hex}
        self._request(EXTEND, payload, after, acknowledged)

    @rule(kind=st.sampled_from(["flat", "steep", "wavy"]), rate=st.sampled_from([None, 0.01, 0.1]))
    def enqueue(self, kind: str, rate: float | None) -> None:
        params: dict[str, Any] = {"kind": kind} | ({} if rate is None else {"rate": rate})
        self._request(ENQUEUE, to_payload([Design(params=params, base={})], uuid.uuid4().hex))

    @rule(pick=PICK)
    def stop(self, pick: int) -> None:
        if self.study is not None and not self.running:
            self.ask()
        trials = self.ledger.trials(1)
        running = [trial.number for trial in trials if not trial.state.is_terminal]
        self._request(STOP, {"trial": running[pick % len(running)] if running else pick})

    @rule(maximum=st.sampled_from(MAXIMA), space=st.sampled_from(sorted(SPACES)), far=st.booleans())
    def edit(self, maximum: int, space: str, far: bool) -> None:
        stored = self._stored()
        changes = {
            "budget.maximum": [stored.budget.maximum, max(maximum, stored.budget.maximum)],
            "space": [stored.space, space],
            "stop.target": [stored.stop.target, 2.0 if far else None],
        }
        changes = {key: pair for key, pair in changes.items() if pair[0] != pair[1]}
        opened = [SPACES[space].name, SPACES[space].version]
        self._request(EDIT, {"changes": changes, "space": opened, "code_digest": None})

    @rule()
    def pause(self) -> None:
        if self.study is None:
            return
        asked = self.ledger.add_request(1, PAUSE, {"driver": str(self.study._lease.holder)})
        if self._unless_killed(self._pause):
            assert self.ledger.read_answer(asked) == {"paused": True}

    # The promises

    @invariant()
    def promises_hold(self) -> None:
        trials, stored = self.ledger.trials(1), self._stored()
        self._requests_take_effect_once(trials, stored)
        self._trials_and_results_stay(trials)
        if self.study is not None:
            assert list(map(_state, self.study.trials)) == list(map(_state, trials))
            known = self.study.config
            assert (known.stop, known.budget) == (stored.stop, stored.budget)

    def _requests_take_effect_once(self, trials: list[Trial], stored: StudyConfig) -> None:
        requested = request_checker.num_requested(self.path, "small", FIRST_TRIALS)
        assert request_checker.of_steering(self.path, "small", requested, self.notes) == []
        started = sum(trial.kind == "search" and trial.attempts > 0 for trial in trials)
        assert started <= (stored.stop.trials or 0)

    def _trials_and_results_stay(self, trials: list[Trial]) -> None:
        assert [trial.number for trial in trials] == list(range(len(trials)))
        fixed = [(t.uid, t.kind, t.parent, dict(t.params), t.digest, t.seed) for t in trials]
        assert fixed[: len(self.fixed)] == self.fixed
        now = request_checker.ended_trials(self.path, "small")
        assert request_checker.of_ended(self.ended, now) == []
        kept = {(t.uid, m.fidelity): dict(m.metrics) for t in trials for m in t.own_measurements}
        assert {key: kept.get(key) for key in self.seen} == self.seen
        self.fixed, self.ended = fixed, now

    # Helpers

    def _row(self) -> StudyRow:
        row = self.ledger.study("small")
        assert row is not None
        return row

    def _stored(self) -> StudyConfig:
        return StudyConfig.from_json(self._row().config_json)

    def _open(self, holder: Holder) -> Any:
        return self.ledger.open_study(name="small", config_json=None, holder=holder)

    def _unless_killed(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Killed:
            self._bury()
            return None

    def _bury(self) -> None:
        assert self.study is not None
        self.dead.add(self.study._lease.holder.process_started)
        self._leave()

    def _leave(self) -> None:
        self.study, self.running = None, []

    def _train(self, attempt: Running, epochs: int) -> None:
        assert self.study is not None
        key = attempt.job.key
        for _ in range(epochs):
            attempt.epoch += 1
            verdict = self._report(key, measured(attempt.job, attempt.epoch))
            at_end = attempt.epoch == attempt.job.budget.maximum
            if verdict is Verdict.CONTINUE and not at_end:
                continue
            if verdict is Verdict.PAUSE:
                self.study.requeue(key)
            else:
                self.study.tell(key)
            self.running.remove(attempt)
            return

    def _report(self, key: AttemptKey, seen: Measurement) -> Verdict:
        assert self.study is not None
        verdict = self.study.report(key, seen)
        if verdict is Verdict.CONTINUE:
            self.seen.setdefault((key.trial_uid, seen.fidelity), dict(seen.metrics))
        return verdict

    def _search(self, attempts: int) -> None:
        """Run attempts as an engine does; a study without any more ends."""
        assert self.study is not None
        while self.running:
            self._train(self.running[0], max(MAXIMA))
        for _ in range(attempts):
            if (job := self.study.ask()) is not None:
                self.running.append(Running(job))
                self._train(self.running[0], max(MAXIMA))
            elif self.study.seal():
                self._end()
                return

    def _end(self) -> None:
        assert self.study is not None
        done = self.study.search_finished
        self.study.close()
        self.mortal.set_study_state(self.study._lease, "finished" if done else "interrupted")
        self.mortal.release(self.study._lease)
        self._leave()

    def _pause(self) -> bool:
        assert self.study is not None
        self.study._answer_requests()
        assert self.study.stop_reason == "pause"
        assert self.study.ask() is None
        self.study.close()
        self.mortal.release(self.study._lease)
        self._leave()
        return True

    def _request(
        self, kind: str, payload: dict[str, Any], after: int = 0, acknowledged: bool = True
    ) -> None:
        """Request something as a command does, which is killed at its n-th write, if any."""
        note = {"kind": kind, "operation": payload.get("operation", "")}
        if self.study is not None:
            self.ledger.add_request(1, kind, payload)
            self.notes.append({**note, "added": kind in {EXTEND, ENQUEUE}})
            self._unless_killed(self.study._answer_requests)
            return
        self.notes.append(note)
        mortal: Any = self.ledger
        if after:
            mortal = Dying(self.ledger, after=after, acknowledged=acknowledged)
            mortal.writes = WRITES
        try:
            answer = requesting.submit(mortal, self._row(), kind, payload).answer
            self.notes[-1]["answer"] = answer
        except CommandError:
            pass
        except Killed:
            self.dead.add(Holder.of_this_process().process_started)


def _state(trial: Trial) -> tuple[Any, ...]:
    return trial.number, trial.state, trial.reason, trial.reached, trial.paused, trial.attempts


class _NoHeartbeat:
    """A heartbeat that the machine gives itself."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the machine, with settings."""
    SteeringMachine.template, SteeringMachine.dead = tmp_path / "template.db", set()
    with Ledger.open(SteeringMachine.template) as ledger:
        _, lease = ledger.open_study(
            name="small",
            config_json=STUDY.canonical_json(),
            space_name="branching",
            space_version="1",
            data_digest="none",
            holder=Holder.of_this_process(),
        )
        ledger.release(lease)
    dead = SteeringMachine.dead
    monkeypatch.setattr(Holder, "is_gone", lambda self: self.process_started in dead)
    monkeypatch.setattr("orchestrator.study.driver.Heartbeat", _NoHeartbeat)
    for module in ("orchestrator.study.parts", "orchestrator.study.requests.edit_effect"):
        monkeypatch.setattr(f"{module}.study_space", lambda given, _: SPACES[str(given.space)])
    monkeypatch.setattr("orchestrator.study.requests.edit_effect.user_code", lambda _config: None)

    def run(**given: Any) -> None:
        chosen = settings(
            max_examples=8,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **given,
        )
        run_state_machine_as_test(SteeringMachine, settings=chosen)

    return run


def test_every_order_of_requests_and_kills_keeps_the_promises(
    machine: Callable[..., None],
) -> None:
    machine()


@pytest.mark.parametrize(
    "guard",
    [
        "orchestrator.ledger.transitions.requeue_all",
        "orchestrator.study.driver.StudyDriver._rebuild",
    ],
)
def test_the_machine_finds_a_missing_guard(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, guard: str
) -> None:
    monkeypatch.setattr(guard, lambda *_: None)
    with pytest.raises(Exception):  # noqa: B017, PT011 - an assertion, or an error of the ledger
        machine(phases=[Phase.generate], derandomize=True, database=None)
