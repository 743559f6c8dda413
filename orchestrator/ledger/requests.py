"""Requests in the ledger: appended by anybody, answered by the study's driver alone."""

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
    .values(answered=bindparam("at"), answer_json=bindparam("what"))
)
_ANSWERED = select(request.c.answer_json).where(request.c.id == bindparam("which"))


def ask(tx: Transaction, study_id: int, kind: str, payload: Mapping[str, Any]) -> int:
    """Append a request, unless the same one is open: so that asking again asks nothing more."""
    words = to_json(payload)
    for found in tx.connection.execute(_OPEN, {"of_study": study_id}):
        if (found.kind, found.payload_json) == (kind, words):
            return int(found.id)
    row = {"study_id": study_id, "kind": kind, "payload_json": words, "recorded": tx.now()}
    return int(tx.connection.execute(_ADD, row).scalar_one())


def answer(tx: Transaction, lease: Lease, which: int, said: Mapping[str, Any]) -> None:
    """Say what came of a request; the first answer stays."""
    leases.require(tx, lease)
    tx.connection.execute(_ANSWER, {"which": which, "at": tx.now(), "what": to_json(said)})


def read_open(connection: Connection, study_id: int) -> list[Request]:
    """Those without an answer, oldest first."""
    return [Request(**from_row(row)) for row in connection.execute(_OPEN, {"of_study": study_id})]


def read_answer(connection: Connection, which: int) -> dict[str, Any] | None:
    """What was answered; None while nothing was."""
    said = connection.scalar(_ANSWERED, {"which": which})
    return None if said is None else dict(json.loads(said))
