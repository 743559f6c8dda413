"""How a study is opened and how its own row changes.

Opening is one transaction: the study made if it is new, its lease taken, and what a driver that is
gone left RUNNING set to WAITING.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, insert, update

from orchestrator.ledger import leases, queries, transitions
from orchestrator.ledger.database import Transaction
from orchestrator.ledger.errors import StudyConflict, UnknownStudy
from orchestrator.ledger.leases import Holder, Lease
from orchestrator.ledger.migrations import ADVISORY_LOCK
from orchestrator.ledger.records import StudyRow
from orchestrator.ledger.schema import projection, study

_COMPARED = ("config_json", "space_name", "space_version", "data_digest", "code_digest")

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
    about: Mapping[str, Any],
    holder: Holder,
) -> tuple[StudyRow, Lease]:
    """Take the lease of a study, which is created if it is new and if a config is given.

    Raises:
        StudyConflict: It exists and was started from something else.
        UnknownStudy: It does not exist and no configuration was given.
        LeaseHeld: Another driver runs it.
    """
    tx.lock(ADVISORY_LOCK)
    found = queries.read_study(tx.connection, name)
    if found is None:
        if given["config_json"] is None:
            raise UnknownStudy(f"no study {name!r} in this ledger; `archscout list` shows all")
        found = _create(tx, name, given, about)
    elif given["config_json"] is not None:
        differing = [column for column in _COMPARED if given[column] != getattr(found, column)]
        if differing:
            raise StudyConflict(name, found.config_json, differing)
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
    tx: Transaction, name: str, given: Mapping[str, str | None], about: Mapping[str, Any]
) -> StudyRow:
    now = tx.now()
    row = {"name": name, **given, "created": now, "state": "running", "spent_s": 0.0}
    created = tx.connection.execute(_ADD, row).one()
    tx.connection.execute(_ADD_PROJECTION, {"study_id": created.id, "cursor": 0, "updated": now})
    tx.append(created.id, 1, "study_created", {"name": name, **given, "about": dict(about)})
    return StudyRow(**created._asdict())
