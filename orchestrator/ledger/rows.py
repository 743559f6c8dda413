"""How a study is opened and how its own row changes.

Opening is one transaction: the study made if it is new, its lease taken, and what a driver that is
gone left RUNNING set to WAITING.
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
from orchestrator.ledger.serialization import check_values, to_row
from orchestrator.trial import Trial, TrialState

_ADD = insert(study).returning(study)
_ADD_PROJECTION = insert(projection)
_CHANGE = update(study).where(study.c.id == bindparam("of_study"))
_SET_STATE = _CHANGE.values(state=bindparam("to_state"))
_SET_CONFIG = _CHANGE.values(config_json=bindparam("new"))
_ADD_SPENT = _CHANGE.values(spent_s=study.c.spent_s + bindparam("more"))


def open_study(
    tx: Transaction,
    name: str,
    given: Mapping[str, str | None],
    metadata: Mapping[str, Any],
    holder: Holder,
) -> tuple[StudyRow, Lease]:
    """Take the lease of a study, which is created if it is new and if a config is given.

    Raises:
        StudyConflictError: It exists and was started from something else.
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
    transitions.give_back_all(tx, lease)
    return found, lease


def set_state(tx: Transaction, lease: Lease, state: str) -> None:
    """Say how the study stands."""
    leases.require(tx, lease)
    tx.connection.execute(_SET_STATE, {"of_study": lease.study_id, "to_state": state})
    tx.append(lease.study_id, lease.generation, "study_state", {"state": state})


def set_config(tx: Transaction, lease: Lease, config_json: str) -> None:
    """Replace the study's config by one that decides more."""
    leases.require(tx, lease)
    tx.connection.execute(_SET_CONFIG, {"of_study": lease.study_id, "new": config_json})
    tx.append(lease.study_id, lease.generation, "study_config", {"config_json": config_json})


def add_spent(tx: Transaction, lease: Lease, seconds: float) -> None:
    """Add to the driver time that the study has used."""
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


_NEXT_NUMBER = select(func.coalesce(func.max(trial.c.number) + 1, 0)).where(
    trial.c.study_id == bindparam("of_study")
)
_ADD_TRIAL = insert(trial)
_ADDED = (
    "uid",
    "number",
    "kind",
    "parent",
    "params",
    "digest",
    "seed",
    "cost",
    "shapes",
    "describe",
    "state",
)
"""Fields of a trial in its event `trial_added`."""


def add_trial(tx: Transaction, lease: Lease, new: Trial) -> Trial:
    """Add a trial, and end it at once if it came with a terminal state.

    Raises:
        NumberMismatchError: The number is not the study's next.
        IllegalTransitionError: The trial would begin RUNNING.
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
    added = replace(new, created=now, ended=now if new.state.is_terminal else None)
    row = {**to_row(added, trial), "study_id": lease.study_id, "state": new.state.value}
    tx.connection.execute(_ADD_TRIAL, row)
    payload = {name: getattr(added, name) for name in _ADDED}
    tx.append(lease.study_id, lease.generation, "trial_added", payload)
    if new.state.is_terminal:
        transitions.append_finished(tx, lease, new, uid=new.uid, number=new.number, attempt=None)
    return added


_IS_THERE = select(study.c.id).where(study.c.id == bindparam("of_study"))
_UIDS = select(trial.c.uid).where(trial.c.study_id == bindparam("of_study"))
_UNDER_WAY = select(promotion.c.model, promotion.c.alias).where(
    promotion.c.study_id == bindparam("of_study"), promotion.c.state.not_in(sorted(ENDED))
)
_CHILDREN = (
    select(study.c.name)
    .join_from(trial, study, study.c.id == trial.c.study_id)
    .where(trial.c.parent.in_(_UIDS), trial.c.study_id != bindparam("of_study"))
)
# Promotions stay: they count how often test data was opened, and how often an alias was moved.
_FORGET = (
    update(promotion)
    .where(promotion.c.study_id == bindparam("of_study"))
    .values(study_id=None, trial_uid=None)
)


def delete_study(tx: Transaction, row: StudyRow, holder: Holder) -> None:
    """Remove a study's rows; none are left where it has been deleted before.

    Raises:
        LeaseHeldError: A driver runs it.
        StudyNeededError: A trial of it is being promoted, or another study goes back to one.
    """
    tx.lock(ADVISORY_LOCK)
    given = {"of_study": row.id}
    # Its events are gone with it: a COMMIT whose answer was lost is told by the row alone, whose
    # id is never given to another study.
    if tx.connection.scalar(_IS_THERE, given) is None:
        return
    leases.acquire(tx, row.id, row.name, holder)
    _refuse_needed(tx, row.id, row.name)
    tx.connection.execute(_FORGET, given)
    for table in (checkpoint, measurement, attempt):
        tx.connection.execute(delete(table).where(table.c.trial_uid.in_(_UIDS)), given)
    for table in (trial, request, event, projection, lease):
        tx.connection.execute(delete(table).where(table.c.study_id == bindparam("of_study")), given)
    tx.connection.execute(delete(study).where(study.c.id == bindparam("of_study")), given)


def require_deletable(tx: Transaction, row: StudyRow) -> None:
    """Check that nobody runs or needs a study.

    Raises:
        LeaseHeldError: A driver runs it.
        StudyNeededError: A trial of it is being promoted, or another study goes back to one.
    """
    leases.require_free(tx, row.id, row.name)
    _refuse_needed(tx, row.id, row.name)


def _refuse_needed(tx: Transaction, study_id: int, name: str) -> None:
    given = {"of_study": study_id}
    for model, alias in tx.connection.execute(_UNDER_WAY, given):
        raise StudyNeededError(
            f"study {name!r} stays: a promotion of it to {model}@{alias} has not ended; "
            "end it with the same `archscout promote` first"
        )
    child = tx.connection.scalar(_CHILDREN, given)
    if child is not None:
        raise StudyNeededError(
            f"study {name!r} stays: trials of study {child!r} go back to it; delete that one "
            f"first: archscout delete {child}"
        )
