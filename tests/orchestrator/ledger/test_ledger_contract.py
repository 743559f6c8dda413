"""What every ledger promises, on SQLite and PostgreSQL alike."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.ledger import (
    IllegalTransitionError,
    LedgerError,
    NumberMismatchError,
    StaleAttemptError,
    StudyConflictError,
    UnknownStudyError,
    UnknownTrialError,
)
from orchestrator.trial import TrialState
from workers.measurement import Measurement

Measure = Callable[..., Measurement]


def test_a_new_study_is_stored_as_given(scene: Any) -> None:
    row, lease = scene.open(code_digest="c0de")
    assert scene.ledger.study(scene.name) == row
    assert row in scene.ledger.studies()
    assert (row.config_json, row.space_name, row.space_version) == ('{"seed":0}', "tiny", "1")
    assert (row.data_digest, row.code_digest, row.state) == ("d", "c0de", "running")
    assert (row.created, row.spent_s, lease.generation) == (scene.clock.now(), 0.0, 1)
    assert scene.ledger.study("no-such") is None


@pytest.mark.parametrize(
    "column",
    ["config_json", "space_name", "space_version", "teacher_sha256", "data_digest", "code_digest"],
)
def test_a_study_with_other_inputs_conflicts_and_leaves_the_lease_free(
    scene: Any, column: str
) -> None:
    _, lease = scene.open()
    scene.ledger.release(lease)
    with pytest.raises(StudyConflictError, match=f"another {column}") as caught:
        scene.open(**{column: "other"})
    assert caught.value.stored_config == '{"seed":0}'
    assert scene.open()[1].generation == lease.generation + 1


def test_resuming_uses_the_stored_study_and_refuses_an_unknown_name(scene: Any) -> None:
    row, lease = scene.open()
    scene.ledger.release(lease)
    again, _ = scene.open(config_json=None, space_name="ignored")
    assert again == row
    with pytest.raises(UnknownStudyError, match="archscout list"):
        scene.open(name=f"{scene.name}-x", config_json=None)
    assert scene.ledger.study(f"{scene.name}-x") is None


def test_state_and_spent_time_of_a_study_are_kept(scene: Any) -> None:
    row, lease = scene.open()
    scene.ledger.set_study_state(lease, "interrupted")
    scene.ledger.add_spent(lease, 1.5)
    scene.ledger.add_spent(lease, 2.0)
    after = scene.ledger.study(scene.name)
    assert (after.state, after.spent_s) == ("interrupted", 3.5)
    assert scene.kinds(row.id)[-3:] == ["study_state", "study_spent", "study_spent"]
    with pytest.raises(LedgerError, match="study_state_known"):
        scene.ledger.set_study_state(lease, "confused")


def test_a_trial_reads_back_as_it_was_added(scene: Any) -> None:
    row, lease = scene.open()
    parent = scene.add(lease)
    added = scene.add(
        lease,
        kind="retry",
        parent=parent.uid,
        params={"a": 1, "b": 0.1 + 0.2, "c": "ü\x00\ud800", "d": None, "e": [1, 2]},
        sampler_attrs={"generation": 3},
        cost={"parameters": 1e6},
    )
    assert scene.ledger.trial(row.id, 1) == added
    assert scene.ledger.trials(row.id) == [parent, added]
    with pytest.raises(UnknownTrialError, match="no trial 2"):
        scene.ledger.trial(row.id, 2)


def test_a_screened_trial_ends_as_it_is_added(scene: Any) -> None:
    row, lease = scene.open()
    added = scene.add(
        lease, state=TrialState.PRUNED, reason="infeasible", violations={"parameters": 0.5}
    )
    assert (added.state, added.ended, added.started) == ("PRUNED", scene.clock.now(), None)
    assert scene.ledger.trial(row.id, 0) == added
    assert scene.kinds(row.id)[-2:] == ["trial_added", "trial_finished"]
    with pytest.raises(IllegalTransitionError, match="is PRUNED and cannot become RUNNING"):
        scene.ledger.start_attempt(lease, added.uid)


def test_numbers_are_consecutive_and_no_new_trial_is_running(scene: Any) -> None:
    row, lease = scene.open()
    with pytest.raises(NumberMismatchError, match="next is 0, not 1"):
        scene.add(lease, number=1)
    added = scene.add(lease, number=0)
    with pytest.raises(NumberMismatchError, match="next is 1, not 0"):
        scene.add(lease, number=0)
    with pytest.raises(IllegalTransitionError, match="cannot become RUNNING"):
        scene.add(lease, number=1, state=TrialState.RUNNING)
    with pytest.raises(LedgerError, match=r"(?s)refused: .*(uid|trial_pkey)"):
        scene.add(lease, number=1, uid=added.uid)
    assert len(scene.ledger.trials(row.id)) == 1


def test_a_trial_goes_from_waiting_to_complete(scene: Any, measure: Measure) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    scene.clock.pass_by(5)
    assert scene.ledger.record(lease, key, measure(1)) is True
    assert scene.ledger.record(lease, key, measure(2, checkpoint=True)) is True
    done = scene.ledger.finish(
        lease, key.trial_uid, key=key, state=TrialState.COMPLETE, values=(0.5, 1e-300)
    )
    assert (done.state, done.values, done.attempts) == ("COMPLETE", (0.5, 1e-300), 1)
    assert done.measurements == (measure(1), measure(2, checkpoint=True))
    assert done.ended == done.started + 5
    assert scene.ledger.trial(row.id, 0) == done
    (attempt,) = scene.ledger.attempts(key.trial_uid)
    assert (attempt.number, attempt.node, attempt.pid) == (1, "n", 7)
    assert (attempt.outcome, attempt.ended) == ("complete", done.ended)


def test_the_first_measurement_of_an_epoch_wins(scene: Any, measure: Measure) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    scene.ledger.record(lease, key, measure(1, val_accuracy=0.1))
    assert scene.ledger.record(lease, key, measure(1, val_accuracy=0.9, checkpoint=True)) is False
    (seen,) = scene.ledger.trial(row.id, 0).measurements
    assert seen.metrics == {"val_accuracy": 0.1}
    assert scene.kinds(row.id).count("measurement") == 1
    assert scene.ledger.checkpoints(key.trial_uid) == []


def test_an_interrupted_trial_continues_in_a_new_attempt(scene: Any, measure: Measure) -> None:
    row, lease = scene.open()
    first = scene.start(lease)
    scene.ledger.record(lease, first, measure(1, checkpoint=True))
    scene.ledger.requeue(lease, first, "out_of_memory", failure={"digest": "f"})
    waiting = scene.ledger.trial(row.id, 0)
    assert (waiting.state, waiting.failure) == ("WAITING", {"digest": "f"})
    second = scene.ledger.start_attempt(lease, first.trial_uid)
    assert (second.number, second.fence != first.fence) == (2, True)
    scene.ledger.record(lease, second, measure(2, checkpoint=True))
    assert [c.path for c in scene.ledger.checkpoints(first.trial_uid)] == ["/c/2", "/c/1"]
    done = scene.ledger.finish(
        lease, first.trial_uid, key=second, state=TrialState.COMPLETE, values=(1.0,)
    )
    assert [m.fidelity for m in done.measurements] == [1, 2]
    assert done.failure is None
    outcomes = [(a.outcome, a.failure) for a in scene.ledger.attempts(first.trial_uid)]
    assert outcomes == [("out_of_memory", {"digest": "f"}), ("complete", None)]


def test_an_older_attempt_writes_nothing(scene: Any, measure: Measure) -> None:
    row, lease = scene.open()
    old = scene.start(lease)
    scene.ledger.requeue(lease, old, "interrupted")
    with pytest.raises(StaleAttemptError, match="it has ended"):
        scene.ledger.record(lease, old, measure(1))
    scene.ledger.start_attempt(lease, old.trial_uid)
    before = len(scene.kinds(row.id))
    with pytest.raises(StaleAttemptError, match="attempt 2 is the trial's newest"):
        scene.ledger.record(lease, old, measure(1))
    with pytest.raises(StaleAttemptError, match="attempt 2"):
        scene.ledger.requeue(lease, old, "interrupted")
    with pytest.raises(StaleAttemptError, match="attempt 2"):
        scene.ledger.finish(lease, old.trial_uid, key=old, state=TrialState.FAIL)
    with pytest.raises(StaleAttemptError):
        scene.ledger.finish(lease, old.trial_uid, key=None, state=TrialState.FAIL)
    assert scene.ledger.trial(row.id, 0).state == "RUNNING"
    assert len(scene.kinds(row.id)) == before


def test_a_wrong_fence_is_refused(scene: Any, measure: Measure) -> None:
    _, lease = scene.open()
    key = scene.start(lease)
    forged = type(key)(trial_uid=key.trial_uid, number=key.number, fence="f" * 32)
    with pytest.raises(StaleAttemptError, match="fence"):
        scene.ledger.record(lease, forged, measure(1))


def test_a_trial_is_finished_once(scene: Any, measure: Measure) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    reported = scene.ledger.finish(
        lease, key.trial_uid, key=key, state=TrialState.PRUNED, reason="rung"
    )
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.WAITING):
        with pytest.raises(IllegalTransitionError, match="is PRUNED and cannot become"):
            scene.ledger.finish(lease, key.trial_uid, key=key, state=state)
    with pytest.raises(StaleAttemptError):
        scene.ledger.record(lease, key, measure(1))
    with pytest.raises(StaleAttemptError):
        scene.ledger.requeue(lease, key, "interrupted")
    assert scene.ledger.trial(row.id, 0) == reported
    assert scene.kinds(row.id).count("trial_finished") == 1


def test_a_waiting_trial_may_fail_but_not_complete(scene: Any) -> None:
    _, lease = scene.open()
    uid = scene.add(lease).uid
    with pytest.raises(IllegalTransitionError, match="WAITING and cannot become COMPLETE"):
        scene.ledger.finish(lease, uid, key=None, state=TrialState.COMPLETE, values=(1.0,))
    done = scene.ledger.finish(
        lease, uid, key=None, state=TrialState.FAIL, reason="operator", failure={"kind": "x"}
    )
    assert (done.state, done.reason, done.failure) == ("FAIL", "operator", {"kind": "x"})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(scene: Any, measure: Measure, bad: float) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    before = scene.kinds(row.id)
    with pytest.raises(ValueError, match="val_loss = "):
        scene.ledger.record(lease, key, measure(1, val_loss=bad))
    for reported in ({"values": (0.5, bad)}, {"values": (0.5,), "violations": {"flops": bad}}):
        with pytest.raises(ValueError, match="finite numbers only"):
            scene.ledger.finish(
                lease, key.trial_uid, key=key, state=TrialState.COMPLETE, **reported
            )
    with pytest.raises(ValueError, match="finite numbers only"):
        scene.add(lease, number=1, params={"x": bad})
    with pytest.raises(ValueError, match="spent_s"):
        scene.ledger.add_spent(lease, bad)
    assert scene.kinds(row.id) == before


def test_only_complete_trials_have_values(scene: Any, measure: Measure) -> None:
    _, lease = scene.open()
    key = scene.start(lease)
    with pytest.raises(ValueError, match="only if, it is COMPLETE"):
        scene.ledger.finish(lease, key.trial_uid, key=key, state=TrialState.COMPLETE)
    with pytest.raises(ValueError, match="only if, it is COMPLETE"):
        scene.ledger.finish(lease, key.trial_uid, key=key, state=TrialState.FAIL, values=(1.0,))
    with pytest.raises(ValueError, match="count from 1"):
        scene.ledger.record(lease, key, measure(0))


def test_a_trial_of_another_study_is_unknown(scene: Any, measure: Measure) -> None:
    _, lease = scene.open()
    key = scene.start(lease)
    _, other = scene.open(name=f"{scene.name}-b")
    with pytest.raises(UnknownTrialError):
        scene.ledger.record(other, key, measure(1))
    with pytest.raises(UnknownTrialError):
        scene.ledger.start_attempt(other, key.trial_uid)


def test_events_record_all_writes_in_order(scene: Any, measure: Measure) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    scene.clock.pass_by(1)
    scene.ledger.record(lease, key, measure(1, checkpoint=True))
    scene.ledger.finish(lease, key.trial_uid, key=key, state=TrialState.FAIL, reason="user_code")
    events = scene.ledger.events(row.id, 0, 1000)
    assert [event.kind for event in events] == [
        "study_created",
        "lease_acquired",
        "trial_added",
        "attempt_started",
        "measurement",
        "trial_finished",
    ]
    assert [event.id for event in events] == sorted({event.id for event in events})
    reported = events[4].payload
    assert (reported["uid"], reported["number"], reported["attempt"]) == (key.trial_uid, 0, 1)
    assert (reported["epoch"], reported["metrics"]) == (1, measure(1).metrics)
    assert reported["checkpoint"]["bytes"] == 2**33
    assert events[4].recorded == scene.clock.now()
    assert events[5].payload["reason"] == "user_code"
    assert scene.ledger.events(row.id, events[3].id, 1) == [events[4]]


def test_the_projection_cursor_only_moves_forward(scene: Any) -> None:
    row, _ = scene.open()
    assert scene.ledger.cursor(row.id) == 0
    scene.ledger.advance(row.id, 5)
    scene.ledger.advance(row.id, 3)
    assert scene.ledger.cursor(row.id) == 5


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE trial SET state = 'FAIL', values_json = NULL WHERE uid = '{done}'",
        "UPDATE trial SET reason = 'x' WHERE uid = '{done}'",
        "UPDATE trial SET params_json = '{{}}' WHERE uid = '{waiting}'",
        "UPDATE trial SET number = 9 WHERE uid = '{waiting}'",
        "UPDATE trial SET state = 'COMPLETE', values_json = '[1]', ended = 1 "
        "WHERE uid = '{waiting}'",
        "UPDATE measurement SET metrics_json = '{{}}' WHERE trial_uid = '{done}'",
        "UPDATE event SET kind = 'x' WHERE kind = 'study_created'",
        "INSERT INTO attempt VALUES ('{running}', 9, 'f', 1, NULL, NULL, 1, NULL, NULL, NULL)",
    ],
)
def test_triggers_refuse_to_change_final_rows(scene: Any, measure: Measure, write: str) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    scene.ledger.record(lease, key, measure(1))
    scene.ledger.finish(lease, key.trial_uid, key=key, state=TrialState.COMPLETE, values=(1.0,))
    waiting, running = scene.add(lease).uid, scene.start(lease).trial_uid
    before = (scene.ledger.trials(row.id), scene.ledger.events(row.id, 0))
    with pytest.raises(Exception, match=r"archscout: |attempt_open_once|UNIQUE constraint failed"):
        scene.sql(write.format(done=key.trial_uid, waiting=waiting, running=running))
    assert (scene.ledger.trials(row.id), scene.ledger.events(row.id, 0)) == before


def test_threads_write_one_ledger_without_losing_anything(scene: Any, measure: Measure) -> None:
    row, lease = scene.open()
    keys = [scene.start(lease) for _ in range(4)]

    def work(key: Any) -> None:
        for epoch in range(1, 11):
            assert scene.ledger.record(lease, key, measure(epoch))
            scene.ledger.trial(row.id, 0)

    threads = [threading.Thread(target=work, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(t.measurements) for t in scene.ledger.trials(row.id)] == [10] * 4


def test_an_operation_that_fails_midway_writes_nothing(
    scene: Any, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, lease = scene.open()
    key = scene.start(lease)

    def broken(*_: object) -> None:
        raise OSError("pulled the plug")

    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.ledger.database.Transaction.append", broken)
        with pytest.raises(OSError, match="plug"):
            scene.ledger.record(lease, key, measure(1, checkpoint=True))
    assert scene.ledger.trial(row.id, 0).measurements == ()
    assert scene.ledger.checkpoints(key.trial_uid) == []
    assert scene.ledger.record(lease, key, measure(1, checkpoint=True))


def test_a_continuation_begins_with_the_curve_of_its_parent(
    scene: Any, measure: Callable[..., Measurement]
) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    for epoch in (1, 2, 3):
        scene.ledger.record(lease, key, measure(epoch))
    scene.ledger.finish(lease, key.trial_uid, key=key, state=TrialState.PRUNED, reason="rung")
    child = scene.add(lease, kind="continue", parent=key.trial_uid)
    own = scene.ledger.start_attempt(lease, child.uid)

    def curve(number: int) -> tuple[list[int], int]:
        for trial in (scene.ledger.trial(row.id, number), scene.ledger.trials(row.id)[number]):
            found = ([seen.fidelity for seen in trial.measurements], trial.inherited)
        return found

    assert curve(1) == ([1, 2, 3], 3)
    scene.ledger.record(lease, own, measure(3))  # its parent's last checkpoint was damaged
    scene.ledger.record(lease, own, measure(4))
    assert curve(1) == ([1, 2, 3, 4], 2)
    ended = scene.ledger.finish(lease, child.uid, key=own, state=TrialState.PRUNED, reason="rung")
    assert (ended.reached, ended.inherited) == (4, 2)
    assert len(ended.own_measurements) == 2
    scene.add(lease, kind="continue", parent=child.uid)
    assert curve(2) == ([1, 2, 3, 4], 4)
    assert curve(0) == ([1, 2, 3], 0)
