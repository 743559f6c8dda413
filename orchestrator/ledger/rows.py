"""Rows of studies and trials: open a study, add a trial, delete a study.

Opening is one transaction: it creates a new study, acquires the lease, and requeues RUNNING trials
of a driver that died.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from orchestrator.ledger import leases, queries, transitions
from orchestrator.ledger.database import Transaction
from orchestrator.ledger.errors import (
    IllegalTransitionError,
    NumberMismatchError,
    StudyConflictError,
    StudyNeededError,
    UnknownStudyError,
)
from orchestrator.ledger.leases import Holder, Lease
from orchestrator.ledger.migrations import ADVISORY_LOCK
from orchestrator.ledger.promotions import ENDED
from orchestrator.ledger.records import StudyRow
from orchestrator.ledger.schema import (
    attempt,
    checkpoint,
    event,
    lease,
    measurement,
    projection,
    promotion,
    request,
    study,
    trial,
)
from orchestrator.ledger.serialization import check_values, differences, from_columns, to_row
from orchestrator.trial import Trial, TrialState

_ADD = insert(study).returning(study)
_ADD_PROJECTION = insert(projection)
_CHANGE = update(study).where(study.c.id == bindparam("of_study"))
_SET_STATE = _CHANGE.values(state=bindparam("to_state"))
_SET_CONFIG = _CHANGE.values(config_json=bindparam("new"))
_REOPEN = _CHANGE.where(study.c.state == "finished").values(state="interrupted")
_BY_ID = select(study).where(study.c.id == bindparam("of_study"))
_ADD_SPENT = _CHANGE.values(spent_s=study.c.spent_s + bindparam("more"))


def open_study(
    tx: Transaction,
    name: str,
    given: Mapping[str, str | None],
    metadata: Mapping[str, Any],
    holder: Holder,
) -> tuple[StudyRow, Lease]:
    """Acquire the lease of a study, which is created if it is new and a config is given.

    Raises:
        StudyConflictError: It exists with other inputs.
        UnknownStudyError: It does not exist and no configuration was given.
        LeaseHeldError: Another driver runs it.
    """
    tx.lock(ADVISORY_LOCK)
    found = queries.read_study(tx.connection, name)
    if found is None:
        if given["config_json"] is None:
            raise UnknownStudyError(f"no study {name!r} in this ledger; `archscout list` shows all")
        found = _create(tx, name, given, metadata)
    elif given["config_json"] is not None:
        differing = [column for column in given if given[column] != getattr(found, column)]
        if differing:
            raise StudyConflictError(name, found.config_json, differing)
    lease = leases.acquire(tx, found.id, name, holder)
    transitions.requeue_all(tx, lease)
    return found, lease


def set_state(tx: Transaction, lease: Lease, state: str) -> None:
    """Set the state of the study."""
    leases.require(tx, lease)
    tx.connection.execute(_SET_STATE, {"of_study": lease.study_id, "to_state": state})
    tx.append(lease.study_id, lease.generation, "study_state", {"state": state})


def set_config(tx: Transaction, lease: Lease, config_json: str) -> None:
    """Replace the config of the study by one with fewer open choices."""
    leases.require(tx, lease)
    tx.connection.execute(_SET_CONFIG, {"of_study": lease.study_id, "new": config_json})
    tx.append(lease.study_id, lease.generation, "study_config", {"config_json": config_json})


def change_study(
    tx: Transaction, lease: Lease, request_id: int, changes: Mapping[str, str | None]
) -> None:
    """Change columns of the study as a request says; the event lists old and new values."""
    row = tx.connection.execute(_BY_ID, {"of_study": lease.study_id}).one()._asdict()
    tx.connection.execute(_CHANGE.values(**changes), {"of_study": lease.study_id})
    changed = differences(
        from_columns({name: row[name] for name in changes}), from_columns(changes)
    )
    payload = {"request": request_id, "changed": changed, **changes}
    tx.append(lease.study_id, lease.generation, "study_changed", payload)


def reopen(tx: Transaction, lease: Lease) -> None:
    """Set a finished study to `interrupted`, so that a driver continues it."""
    if tx.connection.execute(_REOPEN, {"of_study": lease.study_id}).rowcount:
        payload = {"state": "interrupted"}
        tx.append(lease.study_id, lease.generation, "study_state", payload)


def add_spent(tx: Transaction, lease: Lease, seconds: float) -> None:
    """Add to the driver time of the study."""
    leases.require(tx, lease)
    tx.connection.execute(_ADD_SPENT, {"of_study": lease.study_id, "more": seconds})
    tx.append(lease.study_id, lease.generation, "study_spent", {"seconds": seconds})


def _create(
    tx: Transaction, name: str, given: Mapping[str, str | None], metadata: Mapping[str, Any]
) -> StudyRow:
    now = tx.now()
    row = {"name": name, **given, "created": now, "state": "running", "spent_s": 0.0}
    created = tx.connection.execute(_ADD, row).one()
    tx.connection.execute(_ADD_PROJECTION, {"study_id": created.id, "cursor": 0, "updated": now})
    tx.append(created.id, 1, "study_created", {"name": name, **given, "about": dict(metadata)})
    return StudyRow(**created._asdict())


_ADVANCE = (
    update(projection)
    .where(projection.c.study_id == bindparam("of_study"), projection.c.cursor < bindparam("to"))
    .values(cursor=bindparam("to"), updated=bindparam("at"))
)
_REWIND = (
    update(projection)
    .where(projection.c.study_id == bindparam("of_study"))
    .values(cursor=0, updated=bindparam("at"))
)


def advance(tx: Transaction, study_id: int, cursor: int) -> None:
    """Set the id of the last projected event; an earlier one has no effect."""
    tx.connection.execute(_ADVANCE, {"of_study": study_id, "to": cursor, "at": tx.now()})


def rewind(tx: Transaction, study_id: int) -> None:
    """Restart the projection at the first event."""
    tx.connection.execute(_REWIND, {"of_study": study_id, "at": tx.now()})


_NEXT_NUMBER = select(func.coalesce(func.max(trial.c.number) + 1, 0)).where(
    trial.c.study_id == bindparam("of_study")
)
_VERSION = select(study.c.space_version).where(study.c.id == bindparam("of_study"))
_ADD_TRIAL = insert(trial)
_ADDED = (
    "uid",
    "number",
    "kind",
    "parent",
    "params",
    "digest",
    "space_version",
    "seed",
    "cost",
    "shapes",
    "describe",
    "state",
)
"""Fields of a trial in its event `trial_added`."""


def add_trial(tx: Transaction, lease: Lease, new: Trial) -> Trial:
    """Add a trial, with its event `trial_finished` if its state is terminal.

    Raises:
        NumberMismatchError: The number is not the study's next.
        IllegalTransitionError: The new trial is RUNNING.
        ValueError: A number is not finite, or values do not fit the state.
    """
    leases.require(tx, lease)
    if new.state is TrialState.RUNNING:
        raise IllegalTransitionError(new.uid, "new", new.state)
    check_values(new.state, new.values)
    expected = tx.connection.scalar(_NEXT_NUMBER, {"of_study": lease.study_id}) or 0
    if new.number != expected:
        raise NumberMismatchError(new.number, expected)
    now = tx.now()
    version = new.space_version or tx.connection.scalar(_VERSION, {"of_study": lease.study_id})
    ended = now if new.state.is_terminal else None
    added = replace(new, created=now, ended=ended, space_version=version)
    row = {**to_row(added, trial), "study_id": lease.study_id, "state": new.state.value}
    tx.connection.execute(_ADD_TRIAL, row)
    payload = {name: getattr(added, name) for name in _ADDED}
    tx.append(lease.study_id, lease.generation, "trial_added", payload)
    if new.state.is_terminal:
        transitions.append_finished(tx, lease, new, uid=new.uid, number=new.number, attempt=None)
    return added


_EXISTS = select(study.c.id).where(study.c.id == bindparam("of_study"))
_UIDS = select(trial.c.uid).where(trial.c.study_id == bindparam("of_study"))
_UNFINISHED = select(promotion.c.model, promotion.c.alias).where(
    promotion.c.study_id == bindparam("of_study"), promotion.c.state.not_in(sorted(ENDED))
)
_CHILDREN = (
    select(study.c.name)
    .join_from(trial, study, study.c.id == trial.c.study_id)
    .where(trial.c.parent.in_(_UIDS), trial.c.study_id != bindparam("of_study"))
)
# Promotions stay: they count uses of test data, and moves of an alias.
_DETACH = (
    update(promotion)
    .where(promotion.c.study_id == bindparam("of_study"))
    .values(study_id=None, trial_uid=None)
)


def delete_study(tx: Transaction, row: StudyRow, holder: Holder) -> None:
    """Delete a study's rows; a second call has no effect.

    Raises:
        LeaseHeldError: A driver runs it.
        StudyNeededError: A promotion has not ended, or another study refers to one of its trials.
    """
    tx.lock(ADVISORY_LOCK)
    given = {"of_study": row.id}
    # Its events are deleted too: a COMMIT whose answer was lost is recognized by the missing row,
    # whose id is never reused.
    if tx.connection.scalar(_EXISTS, given) is None:
        return
    leases.acquire(tx, row.id, row.name, holder)
    _refuse_needed(tx, row.id, row.name)
    tx.connection.execute(_DETACH, given)
    for table in (checkpoint, measurement, attempt):
        tx.connection.execute(delete(table).where(table.c.trial_uid.in_(_UIDS)), given)
    for table in (trial, request, event, projection, lease):
        tx.connection.execute(delete(table).where(table.c.study_id == bindparam("of_study")), given)
    tx.connection.execute(delete(study).where(study.c.id == bindparam("of_study")), given)


def require_deletable(tx: Transaction, row: StudyRow) -> None:
    """Require that a study can be deleted.

    Raises:
        LeaseHeldError: A driver runs it.
        StudyNeededError: A promotion has not ended, or another study refers to one of its trials.
    """
    leases.require_free(tx, row.id, row.name)
    _refuse_needed(tx, row.id, row.name)


def _refuse_needed(tx: Transaction, study_id: int, name: str) -> None:
    given = {"of_study": study_id}
    for model, alias in tx.connection.execute(_UNFINISHED, given):
        raise StudyNeededError(
            f"study {name!r} is kept: its promotion to {model}@{alias} has not ended; "
            "end it with the same `archscout promote` first"
        )
    child = tx.connection.scalar(_CHILDREN, given)
    if child is not None:
        raise StudyNeededError(
            f"study {name!r} is kept: trials of study {child!r} refer to it; delete that one "
            f"first: archscout delete {child}"
        )
