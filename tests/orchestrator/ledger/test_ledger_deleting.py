"""A study leaves the ledger whole, or not at all."""

from typing import Any

import pytest
from sqlalchemy import inspect

from orchestrator.ledger import (
    Holder,
    LeaseHeldError,
    LeaseLostError,
    LedgerError,
    StudyGoneError,
    StudyNeededError,
    UnknownStudyError,
)
from orchestrator.ledger.schema import metadata
from orchestrator.trial import TrialState
from workers.measurement import CheckpointRef, Measurement

ME = Holder.of_this_process()
SEEN = Measurement(
    fidelity=1,
    metrics={"val_accuracy": 0.5},
    elapsed_s=1.0,
    checkpoint=CheckpointRef(path="/c/1", manifest_sha256="a" * 64, bytes=10),
)


def promote(scene: Any, study_id: int, uid: str, state: str) -> str:
    """A promotion that has come to a state; its operation."""
    operation = f"operation-{uid}"
    target = {"study_id": study_id, "trial_uid": uid, "model": f"m-{uid}", "alias": "champion"}
    scene.ledger.promotions.begin(operation, **target, holder=ME)
    scene.ledger.promotions.advance(operation, ME, state)
    return operation


def rows_of(scene: Any, study_id: int) -> dict[str, int]:
    """How many rows speak of a study, by table; those with trials through them."""
    counted = {}
    for table in metadata.tables.values():
        names = {column.name for column in table.columns}
        if "study_id" in names:
            [(count,)] = scene.sql(f"SELECT count(*) FROM {table.name} WHERE study_id = {study_id}")
        elif "trial_uid" in names:
            [(count,)] = scene.sql(
                f"SELECT count(*) FROM {table.name} WHERE trial_uid NOT IN (SELECT uid FROM trial)"
            )
        else:
            continue
        counted[table.name] = count
    return counted


def test_all_rows_of_a_study_are_deleted_and_no_others(scene: Any) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    scene.ledger.record(lease, key, SEEN)
    scene.ledger.finish(lease, key.trial_uid, key=key, state=TrialState.COMPLETE, values=(0.5,))
    scene.add(lease, parent=key.trial_uid)
    operation = promote(scene, row.id, key.trial_uid, "done")
    scene.ledger.release(lease)
    other, _ = scene.open(name=f"{scene.name}-other")
    before = rows_of(scene, other.id)
    assert (
        len(inspect(scene.ledger._database._engine).get_table_names()) == len(metadata.tables) + 1
    )
    scene.ledger.delete_study(scene.name, ME)
    assert scene.ledger.study(scene.name) is None
    assert set(rows_of(scene, row.id).values()) == {0}
    assert rows_of(scene, other.id) == before
    [kept] = [p for p in scene.ledger.promotions.all() if p.operation == operation]
    assert (kept.study_id, kept.trial_uid, kept.state) == (None, None, "done")
    with pytest.raises(UnknownStudyError):
        scene.ledger.delete_study(scene.name, ME)


def test_a_running_study_is_kept_and_its_driver_continues(scene: Any) -> None:
    _, lease = scene.open()
    with pytest.raises(LeaseHeldError, match="is being run by process"):
        scene.ledger.delete_study(scene.name, ME)
    scene.add(lease)


def test_a_driver_whose_study_was_deleted_writes_nothing(scene: Any) -> None:
    _, lease = scene.open()
    scene.sql(f"UPDATE lease SET until = 0, until_monotonic = 0 WHERE study_id = {lease.study_id}")
    scene.ledger.delete_study(scene.name, ME)
    with pytest.raises((StudyGoneError, LeaseLostError)):
        scene.add(lease)


@pytest.mark.parametrize("state", ["begun", "registered", "verified", "tested", "moving"])
def test_a_study_that_is_being_promoted_is_kept(scene: Any, state: str) -> None:
    row, lease = scene.open()
    uid = scene.add(lease).uid
    promote(scene, row.id, uid, state)
    scene.ledger.release(lease)
    with pytest.raises(StudyNeededError, match="has not ended"):
        scene.ledger.require_deletable(row)
    with pytest.raises(StudyNeededError, match="has not ended"):
        scene.ledger.delete_study(scene.name, ME)
    assert len(scene.ledger.trials(row.id)) == 1
    # The refusal left no lease behind.
    scene.open()


def test_a_promotion_cannot_begin_once_its_study_is_deleted(scene: Any) -> None:
    row, lease = scene.open()
    uid = scene.add(lease).uid
    scene.ledger.release(lease)
    scene.ledger.delete_study(scene.name, ME)
    with pytest.raises(LedgerError, match=r"(?i)foreign key"):
        promote(scene, row.id, uid, "begun")


def test_a_study_that_another_refers_to_is_kept(scene: Any) -> None:
    row, lease = scene.open()
    uid = scene.add(lease).uid
    scene.ledger.release(lease)
    scene.ledger.require_deletable(row)
    _, other = scene.open(name=f"{scene.name}-child")
    scene.add(other, number=0, parent=uid, kind="confirm")
    with pytest.raises(StudyNeededError, match=r"-child' refer to it.*archscout delete .*-child"):
        scene.ledger.require_deletable(row)
    with pytest.raises(StudyNeededError, match="-child' refer to it"):
        scene.ledger.delete_study(scene.name, ME)
