"""Requests to a study: added by any process, answered by the study's driver only."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from orchestrator.ledger import leases
from orchestrator.ledger.database import Transaction
from orchestrator.ledger.leases import Lease
from orchestrator.ledger.records import Request
from orchestrator.ledger.schema import request
from orchestrator.ledger.serialization import columns_of, from_row, to_json

_OPEN = (
    select(*columns_of(Request, request))
    .where(request.c.study_id == bindparam("of_study"), request.c.answered.is_(None))
    .order_by(request.c.id)
)
_ADD = insert(request).returning(request.c.id)
_ANSWER = (
    update(request)
    .where(request.c.id == bindparam("which"), request.c.answered.is_(None))
    .values(answered=bindparam("at"), answer_json=bindparam("content"))
)
_ANSWERED = select(request.c.answer_json).where(request.c.id == bindparam("which"))


def add(tx: Transaction, study_id: int, kind: str, payload: Mapping[str, Any]) -> int:
    """Add a request, unless an equal one is open, and return its id."""
    encoded = to_json(payload)
    for found in tx.connection.execute(_OPEN, {"of_study": study_id}):
        if (found.kind, found.payload_json) == (kind, encoded):
            return int(found.id)
    row = {"study_id": study_id, "kind": kind, "payload_json": encoded, "recorded": tx.now()}
    return int(tx.connection.execute(_ADD, row).scalar_one())


def answer(tx: Transaction, lease: Lease, request_id: int, content: Mapping[str, Any]) -> None:
    """Answer a request; only the first answer is kept."""
    leases.require(tx, lease)
    tx.connection.execute(
        _ANSWER, {"which": request_id, "at": tx.now(), "content": to_json(content)}
    )


def read_open(connection: Connection, study_id: int) -> list[Request]:
    """Return the open requests of a study, oldest first."""
    return [Request(**from_row(row)) for row in connection.execute(_OPEN, {"of_study": study_id})]


def read_answer(connection: Connection, request_id: int) -> dict[str, Any] | None:
    """Return the answer to a request; None while it is open."""
    content = connection.scalar(_ANSWERED, {"which": request_id})
    return None if content is None else dict(json.loads(content))
