"""Promotions: one row for each operation that takes a trial into the model registry.

The registry's alias goes to whoever sets it last; here it is moved by compare-and-set: moves of an
alias are counted, and a promotion may move it only if none was made since it compared itself with
the champion. One process at a time works on an operation.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from orchestrator.ledger.database import Database, Transaction
from orchestrator.ledger.errors import AliasMovedError, PromotionHeldError
from orchestrator.ledger.leases import Holder
from orchestrator.ledger.migrations import ADVISORY_LOCK
from orchestrator.ledger.records import Promotion
from orchestrator.ledger.schema import lease, promotion
from orchestrator.ledger.serialization import from_row, to_json

STATES = ("begun", "registered", "verified", "tested", "moving", "done", "refused")
"""In this order, refused aside: registered = its files and its version are in the registry."""

TIMEOUT_S = 900.0
"""After so long without a step, a promoter on another host is taken for dead."""

ENDED = frozenset({"done", "refused"})
_FIND = select(promotion).where(promotion.c.op_id == bindparam("operation"))
_OF_ALIAS = select(promotion).where(
    promotion.c.model == bindparam("of_model"), promotion.c.alias == bindparam("of_alias")
)
_ALL = select(promotion).order_by(promotion.c.recorded, promotion.c.op_id)
_ADD = insert(promotion)
_CHANGE = update(promotion).where(promotion.c.op_id == bindparam("operation"))
# Locked, because within a study events must get their ids in order of commit.
_GENERATION = (
    select(lease.c.generation).where(lease.c.study_id == bindparam("of_study")).with_for_update()
)


class Promotions:
    """The promotions of one ledger; safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        operation: str,
        *,
        study_id: int,
        trial_uid: str,
        model: str,
        alias: str,
        holder: Holder,
    ) -> Promotion:
        """Start an operation, or go on with it where an earlier process left it.

        Raises:
            PromotionHeldError: Another process is at it.
        """
        target = {"study_id": study_id, "trial_uid": trial_uid, "model": model, "alias": alias}
        return self._database.write(lambda tx: _begin(tx, operation, target, holder))

    def advance(
        self,
        operation: str,
        holder: Holder,
        state: str,
        *,
        version: int | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Promotion:
        """Record a step.

        Args:
            operation: Which promotion.
            holder: Who works on it.
            state: One of STATES.
            version: The registered version, once there is one.
            detail: What else is to be remembered, added to what is there.

        Raises:
            PromotionHeldError: Another process has taken it over.
        """
        if state not in STATES:
            raise ValueError(f"a promotion is one of {', '.join(STATES)}, not {state!r}")

        def work(tx: Transaction) -> Promotion:
            tx.lock(ADVISORY_LOCK)
            found = _held(tx, operation, holder)
            _write(tx, found, state, version=version, detail=detail or {})
            return _told(tx, operation)

        return self._database.write(work)

    def claim(
        self, operation: str, holder: Holder, *, expected_version: int | None, moves: int
    ) -> Promotion:
        """Win the right to move the alias; whoever compared with an older champion loses.

        Args:
            operation: Which promotion.
            holder: Who works on it.
            expected_version: Where the alias pointed in the comparison, if anywhere.
            moves: How many moves the alias had seen then.

        Raises:
            AliasMovedError: It has been moved since, or is being moved.
            PromotionHeldError: Another process has taken the operation over.
        """
        return self._database.write(
            lambda tx: _claim(tx, operation, holder, expected_version, moves)
        )

    def moves(self, model: str, alias: str) -> int:
        """How many moves an alias has seen, those under way included."""
        return self._database.read(lambda connection: _moves(_of_alias(connection, model, alias)))

    def all(self) -> list[Promotion]:
        """All promotions, oldest first."""
        return self._database.read(
            lambda connection: [_promotion(row) for row in connection.execute(_ALL)]
        )


def _begin(tx: Transaction, operation: str, target: Mapping[str, Any], holder: Holder) -> Promotion:
    tx.lock(ADVISORY_LOCK)
    found = _find(tx.connection, operation)
    now = tx.now()
    if found is None:
        row = {
            "op_id": operation,
            **target,
            "state": "begun",
            "detail_json": to_json({"holder": asdict(holder), "move": 0}),
            "recorded": now,
            "updated": now,
        }
        tx.connection.execute(_ADD, row)
    elif found.state not in ENDED and _is_another_at_work(found, holder, now):
        other = _holder(found)
        raise PromotionHeldError(
            f"process {other.pid} on {other.host} is promoting this very trial to "
            f"{found.model!r}: wait until it ends, or stop it there"
        )
    else:
        _write(tx, found, found.state, detail={"holder": asdict(holder)})
    return _told(tx, operation)


def _claim(
    tx: Transaction, operation: str, holder: Holder, expected_version: int | None, moves: int
) -> Promotion:
    tx.lock(ADVISORY_LOCK)
    found = _held(tx, operation, holder)
    rows = _of_alias(tx.connection, found.model, found.alias)
    for rival in rows:
        if rival.state != "moving" or rival.op_id == operation:
            continue
        if _is_at_work(rival, holder, tx.now()):
            raise AliasMovedError(found.model, found.alias, "another promotion is moving it")
        # Dead in the middle: it may be taken up again, from its comparison on.
        _write(tx, rival, "tested", detail={})
    if _moves(rows) != moves:
        raise AliasMovedError(found.model, found.alias, "another promotion has moved it")
    detail = {"move": moves + 1}
    _write(tx, found, "moving", expected_version=expected_version, detail=detail)
    return _told(tx, operation)


def _find(connection: Connection, operation: str) -> Row[Any] | None:
    return connection.execute(_FIND, {"operation": operation}).one_or_none()


def _held(tx: Transaction, operation: str, holder: Holder) -> Row[Any]:
    found = _find(tx.connection, operation)
    if found is None or _holder(found) != holder:
        raise PromotionHeldError(
            "another process has taken this promotion over; nothing was written"
        )
    return found


def _of_alias(connection: Connection, model: str, alias: str) -> list[Row[Any]]:
    given = {"of_model": model, "of_alias": alias}
    return list(connection.execute(_OF_ALIAS, given))


def _moves(rows: list[Row[Any]]) -> int:
    return max((json.loads(row.detail_json)["move"] for row in rows), default=0)


def _is_another_at_work(found: Row[Any], asking: Holder, now: float) -> bool:
    return _holder(found) != asking and _is_at_work(found, asking, now)


def _is_at_work(found: Row[Any], asking: Holder, now: float) -> bool:
    """Whether an operation's process may still run."""
    other = _holder(found)
    if other.is_gone():
        return False
    # Of processes elsewhere, or before a reboot, nobody here can tell.
    here = (other.host, other.boot_id) == (asking.host, asking.boot_id)
    return here or now - found.updated <= TIMEOUT_S


def _holder(row: Row[Any]) -> Holder:
    return Holder(**json.loads(row.detail_json)["holder"])


def _write(
    tx: Transaction,
    found: Row[Any],
    state: str,
    *,
    detail: Mapping[str, Any],
    version: int | None = None,
    **columns: Any,
) -> None:
    changed = {
        "state": state,
        "detail_json": to_json({**json.loads(found.detail_json), **detail}),
        "updated": tx.now(),
        **columns,
    }
    if version is not None:
        changed["version"] = version
    tx.connection.execute(_CHANGE.values(**changed), {"operation": found.op_id})


def _told(tx: Transaction, operation: str) -> Promotion:
    """The promotion as it stands now, its event appended."""
    found = _find(tx.connection, operation)
    assert found is not None  # noqa: S101  # Written in this transaction.
    generation = tx.connection.scalar(_GENERATION, {"of_study": found.study_id}) or 0
    payload = {
        "operation": operation,
        "trial": found.trial_uid,
        "model": found.model,
        "alias": found.alias,
        "version": found.version,
        "state": found.state,
    }
    tx.append(found.study_id, generation, "promotion", payload)
    return _promotion(found)


def _promotion(row: Row[Any]) -> Promotion:
    fields = from_row(row)
    operation, detail = fields.pop("op_id"), fields.pop("detail")
    kept = {name: value for name, value in detail.items() if name not in {"holder", "move"}}
    return Promotion(**fields, operation=operation, detail=kept)
