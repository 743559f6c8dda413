"""Requests to a study: added by any process, answered by the study's driver only."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from orchestrator.ledger import leases, rows, transitions
from orchestrator.ledger.database import Transaction
from orchestrator.ledger.leases import Lease
from orchestrator.ledger.records import Effect, Request
from orchestrator.ledger.schema import request
from orchestrator.ledger.serialization import columns_of, from_row, to_json

_ALL = (
    select(*columns_of(Request, request))
    .where(request.c.study_id == bindparam("of_study"))
    .order_by(request.c.id)
)
_OPEN = _ALL.where(request.c.answered.is_(None))
_ADD = insert(request).returning(request.c.id)
_ANSWER = (
    update(request)
    .where(request.c.id == bindparam("which"), request.c.answered.is_(None))
    .values(answered=bindparam("at"), answer_json=bindparam("content"))
    .returning(request.c.kind)
)
_ANSWERED = select(request.c.answer_json).where(request.c.id == bindparam("which"))


def add(tx: Transaction, study_id: int, kind: str, payload: Mapping[str, Any]) -> int:
    """Add a request, unless an equal one is open, and return its id."""
    generation = leases.lock(tx, study_id)
    encoded = to_json(payload)
    for found in tx.connection.execute(_OPEN, {"of_study": study_id}):
        if (found.kind, found.payload_json) == (kind, encoded):
            return int(found.id)
    row = {"study_id": study_id, "kind": kind, "payload_json": encoded, "recorded": tx.now()}
    added = int(tx.connection.execute(_ADD, row).scalar_one())
    content = {"request": added, "kind": kind, "payload": payload}
    tx.append(study_id, generation, "request_added", content)
    return added


def carry_out(tx: Transaction, lease: Lease, request_id: int, effect: Effect) -> bool:
    """Answer a request and record what it changes; return False if it was answered before."""
    leases.require(tx, lease)
    content = {"which": request_id, "at": tx.now(), "content": to_json(effect.answer)}
    kind = tx.connection.scalar(_ANSWER, content)
    if kind is None:
        return False
    if effect.changes:
        rows.change_study(tx, lease, request_id, effect.changes)
    for new in effect.added:
        rows.add_trial(tx, lease, new)
    for uid in effect.ended:
        transitions.end_by_operator(tx, lease, uid)
    if effect.changes or effect.added:
        rows.reopen(tx, lease)
    answered = {"request": request_id, "kind": kind, "answer": effect.answer}
    tx.append(lease.study_id, lease.generation, "request_answered", answered)
    return True


def read(connection: Connection, study_id: int, *, only_open: bool) -> list[Request]:
    """Return the requests of a study, oldest first."""
    found = connection.execute(_OPEN if only_open else _ALL, {"of_study": study_id})
    return [Request(**from_row(row)) for row in found]


def read_answer(connection: Connection, request_id: int) -> dict[str, Any] | None:
    """Return the answer to a request; None while it is open."""
    content = connection.scalar(_ANSWERED, {"which": request_id})
    return None if content is None else dict(json.loads(content))
