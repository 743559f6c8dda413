"""Promotions: one row for each promotion of a trial to the model registry.

In the registry, the last writer of an alias wins; here it is moved by compare-and-set: moves of an
alias are counted, and a promotion may move it only if it has not moved since the comparison with
the champion. One process at a time works on a promotion.
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
"""States in order, except `refused`; `registered`: the version is in the registry."""

TIMEOUT_S = 900.0
"""Seconds without a step after which a promoter on another host is presumed dead."""

ENDED = frozenset({"done", "refused"})
_FIND = select(promotion).where(promotion.c.op_id == bindparam("operation"))
_OF_ALIAS = select(promotion).where(
    promotion.c.model == bindparam("of_model"), promotion.c.alias == bindparam("of_alias")
)
_ALL = select(promotion).order_by(promotion.c.recorded, promotion.c.op_id)
_ADD = insert(promotion)
_CHANGE = update(promotion).where(promotion.c.op_id == bindparam("operation"))
# Locked, because ids of a study's events must rise in order of commit.
_GENERATION = (
    select(lease.c.generation).where(lease.c.study_id == bindparam("of_study")).with_for_update()
)


class Promotions:
    """The promotions of one ledger; thread-safe."""

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
        """Start a promotion, or continue one of an earlier process.

        Raises:
            PromotionHeldError: Another process works on it.
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
            operation: Id of the promotion.
            holder: The process that works on it.
            state: One of `STATES`.
            version: Registered version; None before registration.
            detail: Details to add.

        Raises:
            PromotionHeldError: Another process has taken it over.
        """
        if state not in STATES:
            raise ValueError(f"a promotion is one of {', '.join(STATES)}, not {state!r}")

        def work(tx: Transaction) -> Promotion:
            tx.lock(ADVISORY_LOCK)
            found = _held(tx, operation, holder)
            _write(tx, found, state, version=version, detail=detail or {})
            return _with_event(tx, operation)

        return self._database.write(work)

    def claim(
        self, operation: str, holder: Holder, *, expected_version: int | None, moves: int
    ) -> Promotion:
        """Claim the right to move the alias, after a comparison with the present champion.

        Args:
            operation: Id of the promotion.
            holder: The process that works on it.
            expected_version: Version of the alias in the comparison, if any.
            moves: Number of moves of the alias at that time.

        Raises:
            AliasMovedError: It has moved since, or is being moved.
            PromotionHeldError: Another process has taken the promotion over.
        """
        return self._database.write(
            lambda tx: _claim(tx, operation, holder, expected_version, moves)
        )

    def moves(self, model: str, alias: str) -> int:
        """Return the number of moves of an alias, including unfinished ones."""
        return self._database.read(lambda connection: _moves(_of_alias(connection, model, alias)))

    def all(self) -> list[Promotion]:
        """Return all promotions, oldest first."""
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
    elif found.state not in ENDED and _is_held_by_another(found, holder, now):
        other = _holder(found)
        raise PromotionHeldError(
            f"process {other.pid} on {other.host} is promoting this trial to "
            f"{found.model!r}: wait until it ends, or stop it there"
        )
    else:
        _write(tx, found, found.state, detail={"holder": asdict(holder)})
    return _with_event(tx, operation)


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
        # Its process died: it may be continued from its comparison.
        _write(tx, rival, "tested", detail={})
    if _moves(rows) != moves:
        raise AliasMovedError(found.model, found.alias, "another promotion has moved it")
    detail = {"move": moves + 1}
    _write(tx, found, "moving", expected_version=expected_version, detail=detail)
    return _with_event(tx, operation)


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


def _is_held_by_another(found: Row[Any], asking: Holder, now: float) -> bool:
    return _holder(found) != asking and _is_at_work(found, asking, now)


def _is_at_work(found: Row[Any], asking: Holder, now: float) -> bool:
    """Return True if the process of a promotion may still run."""
    other = _holder(found)
    if other.is_gone():
        return False
    # A process of another host or boot cannot be checked.
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


def _with_event(tx: Transaction, operation: str) -> Promotion:
    """Append the event of a promotion, and return the promotion."""
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
