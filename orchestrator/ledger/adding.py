"""How a trial enters the ledger: under the study's next number, WAITING or ended at once."""

from typing import Any

from sqlalchemy import bindparam, func, insert, select

from orchestrator.ledger import leases
from orchestrator.ledger.database import Transaction
from orchestrator.ledger.errors import IllegalMove, NumberMismatch
from orchestrator.ledger.leases import Lease
from orchestrator.ledger.records import NewTrial
from orchestrator.ledger.schema import trial
from orchestrator.ledger.serialization import check_values, optional_json, to_json
from orchestrator.trial import Trial, TrialState

_NEXT_NUMBER = select(func.coalesce(func.max(trial.c.number) + 1, 0)).where(
    trial.c.study_id == bindparam("of_study")
)
_ADD_TRIAL = insert(trial)


def add_trial(tx: Transaction, lease: Lease, new: NewTrial) -> Trial:
    """Add a trial, and end it at once if it came with a terminal state.

    Raises:
        NumberMismatch: The number is not the study's next.
        IllegalMove: The trial would begin RUNNING.
        ValueError: A number is not finite, or values do not fit the state.
    """
    leases.require(tx, lease)
    if new.state is TrialState.RUNNING:
        raise IllegalMove(new.uid, "new", new.state)
    check_values(new.state, new.values)
    expected = tx.connection.scalar(_NEXT_NUMBER, {"of_study": lease.study_id}) or 0
    if new.number != expected:
        raise NumberMismatch(new.number, expected)
    now = tx.now()
    ended = now if new.state.is_terminal else None
    tx.connection.execute(
        _ADD_TRIAL, {**_row(new), "study_id": lease.study_id, "created": now, "ended": ended}
    )
    _tell(tx, lease, new)
    return _as_trial(new, created=now, ended=ended)


def _row(new: NewTrial) -> dict[str, Any]:
    return {
        "uid": new.uid,
        "number": new.number,
        "kind": new.kind,
        "parent": new.parent,
        "params_json": to_json(dict(new.params)),
        "distributions_json": to_json(dict(new.distributions)),
        "candidate_json": to_json(dict(new.candidate)),
        "describe": new.describe,
        "digest": new.digest,
        "state": new.state.value,
        "reason": new.reason,
        "values_json": optional_json(new.values),
        "violations_json": to_json(dict(new.violations)),
        "cost_json": to_json(dict(new.cost)),
        "failure_json": optional_json(new.failure),
        "seed": new.seed,
        "attempts": 0,
        "sampler_attrs_json": to_json(dict(new.sampler_attrs)),
    }


def _tell(tx: Transaction, lease: Lease, new: NewTrial) -> None:
    added = {
        "uid": new.uid,
        "number": new.number,
        "kind": new.kind,
        "parent": new.parent,
        "params": dict(new.params),
        "digest": new.digest,
        "seed": new.seed,
        "cost": dict(new.cost),
        "describe": new.describe,
        "state": new.state.value,
    }
    tx.append(lease.study_id, lease.generation, "trial_added", added)
    if new.state.is_terminal:
        finished = {
            "uid": new.uid,
            "number": new.number,
            "attempt": None,
            "state": new.state.value,
            "reason": new.reason,
            "values": new.values,
            "violations": dict(new.violations),
            "failure": None if new.failure is None else dict(new.failure),
        }
        tx.append(lease.study_id, lease.generation, "trial_finished", finished)


def _as_trial(new: NewTrial, *, created: float, ended: float | None) -> Trial:
    return Trial(
        number=new.number,
        uid=new.uid,
        kind=new.kind,
        parent=new.parent,
        params=new.params,
        distributions=new.distributions,
        candidate=new.candidate,
        describe=new.describe,
        digest=new.digest,
        state=new.state,
        reason=new.reason,
        values=new.values,
        violations=new.violations,
        cost=new.cost,
        seed=new.seed,
        attempts=0,
        failure=new.failure,
        sampler_attrs=new.sampler_attrs,
        created=created,
        started=None,
        ended=ended,
    )
