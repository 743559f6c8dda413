"""How a study leaves the ledger: all of it in one transaction, unless somebody still needs it.

Afterwards nobody can begin to promote one of its trials, so that what else there is of it can be
removed at leisure.
"""

from sqlalchemy import bindparam, delete, select, update

from orchestrator.ledger import leases
from orchestrator.ledger.database import Transaction
from orchestrator.ledger.errors import StudyNeeded
from orchestrator.ledger.leases import Holder
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
        LeaseHeld: A driver runs it.
        StudyNeeded: A trial of it is being promoted, or another study goes back to one.
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
        LeaseHeld: A driver runs it.
        StudyNeeded: A trial of it is being promoted, or another study goes back to one.
    """
    leases.require_free(tx, row.id, row.name)
    _refuse_needed(tx, row.id, row.name)


def _refuse_needed(tx: Transaction, study_id: int, name: str) -> None:
    given = {"of_study": study_id}
    for model, alias in tx.connection.execute(_UNDER_WAY, given):
        raise StudyNeeded(
            f"study {name!r} stays: a promotion of it to {model}@{alias} has not ended; "
            "end it with the same `archscout promote` first"
        )
    child = tx.connection.scalar(_CHILDREN, given)
    if child is not None:
        raise StudyNeeded(
            f"study {name!r} stays: trials of study {child!r} go back to it; delete that one "
            f"first: archscout delete {child}"
        )
