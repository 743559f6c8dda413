"""State transitions of trials: start, measure, finish and requeue.

Each requires the lease of the study, and the fence of the attempt; either may have been lost.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import and_, bindparam, insert, select, update

from orchestrator.ledger import leases
from orchestrator.ledger.database import Transaction
from orchestrator.ledger.errors import (
    IllegalTransitionError,
    StaleAttemptError,
    UnknownTrialError,
)
from orchestrator.ledger.leases import Lease
from orchestrator.ledger.schema import attempt, checkpoint, measurement, trial
from orchestrator.ledger.serialization import check_values, finite, optional_json, to_json
from orchestrator.trial import LEGAL_TRANSITIONS, OPERATOR, Trial, TrialState
from workers.job import AttemptKey
from workers.measurement import Measurement

_CURRENT = (
    select(
        trial.c.number,
        trial.c.state,
        trial.c.attempts,
        trial.c.started,
        trial.c.violations_json,
        attempt.c.fence,
        attempt.c.ended,
        measurement.c.attempt.label("measured_by"),
    )
    .outerjoin_from(
        trial,
        attempt,
        and_(attempt.c.trial_uid == trial.c.uid, attempt.c.number == trial.c.attempts),
    )
    .outerjoin(
        measurement,
        and_(measurement.c.trial_uid == trial.c.uid, measurement.c.epoch == bindparam("epoch")),
    )
    .where(trial.c.uid == bindparam("of_trial"), trial.c.study_id == bindparam("of_study"))
)
_RUNNING = select(trial.c.uid, trial.c.number, trial.c.attempts).where(
    trial.c.study_id == bindparam("of_study"), trial.c.state == TrialState.RUNNING.value
)
_ADD_ATTEMPT = insert(attempt)
_ADD_MEASUREMENT = insert(measurement)
_ADD_CHECKPOINT = insert(checkpoint)
_CHANGE_TRIAL = update(trial).where(trial.c.uid == bindparam("of_trial"))
_START_TRIAL = _CHANGE_TRIAL.values(
    state=TrialState.RUNNING.value, attempts=bindparam("to_attempts"), started=bindparam("since")
)
_WAIT_AGAIN = _CHANGE_TRIAL.values(
    state=TrialState.WAITING.value, failure_json=bindparam("because")
)
_END_TRIAL = _CHANGE_TRIAL.values(
    state=bindparam("to_state"),
    reason=bindparam("why"),
    values_json=bindparam("to_values"),
    violations_json=bindparam("to_violations"),
    failure_json=bindparam("because"),
    ended=bindparam("at"),
)
_END_ATTEMPT = (
    update(attempt)
    .where(attempt.c.trial_uid == bindparam("of_trial"), attempt.c.number == bindparam("of_number"))
    .values(ended=bindparam("at"), outcome=bindparam("how"), failure_json=bindparam("because"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """Terminal state of a trial, with its results."""

    state: TrialState
    reason: str | None
    values: Sequence[float] | None
    violations: Mapping[str, float]
    failure: Mapping[str, Any] | None


def start_attempt(
    tx: Transaction, lease: Lease, uid: str, *, node: str | None, pid: int | None
) -> AttemptKey:
    """Set a WAITING trial to RUNNING, and return the key of its new attempt, with a random fence.

    Raises:
        IllegalTransitionError: The trial is not WAITING.
    """
    leases.require(tx, lease)
    found = _current(tx, lease, uid)
    if found.state != TrialState.WAITING:
        raise IllegalTransitionError(uid, found.state, TrialState.RUNNING)
    key = AttemptKey(trial_uid=uid, number=found.attempts + 1, fence=uuid.uuid4().hex)
    now = tx.now()
    since = now if found.started is None else found.started
    tx.connection.execute(
        _START_TRIAL, {"of_trial": uid, "to_attempts": key.number, "since": since}
    )
    tx.connection.execute(
        _ADD_ATTEMPT,
        {
            "trial_uid": uid,
            "number": key.number,
            "fence": key.fence,
            "generation": lease.generation,
            "node": node,
            "pid": pid,
            "started": now,
        },
    )
    tx.append(
        lease.study_id,
        lease.generation,
        "attempt_started",
        {"uid": uid, "number": found.number, "attempt": key.number, "node": node, "pid": pid},
    )
    return key


def record(tx: Transaction, lease: Lease, key: AttemptKey, seen: Measurement) -> bool:
    """Record a measurement and its checkpoint; return False if the epoch was measured before.

    Raises:
        StaleAttemptError: The attempt is not the trial's newest, or has ended.
        ValueError: A metric is not finite, or the epoch is below 1.
    """
    metrics = {name: finite(name, value) for name, value in seen.metrics.items()}
    elapsed_s = finite("elapsed_s", seen.elapsed_s)
    if seen.fidelity < 1:
        raise ValueError(f"epochs count from 1, not {seen.fidelity}")
    leases.require(tx, lease)
    found = _current(tx, lease, key.trial_uid, epoch=seen.fidelity)
    _check_fence(key, found)
    if found.measured_by is not None:
        return False
    checkpoint_row = _insert(tx, key, seen, metrics_json=to_json(metrics))
    payload = {
        "uid": key.trial_uid,
        "number": found.number,
        "attempt": key.number,
        "epoch": seen.fidelity,
        "metrics": metrics,
        "elapsed_s": elapsed_s,
        "checkpoint": checkpoint_row,
    }
    tx.append(lease.study_id, lease.generation, "measurement", payload)
    return True


def _insert(
    tx: Transaction, key: AttemptKey, seen: Measurement, *, metrics_json: str
) -> dict[str, Any] | None:
    """Insert both rows, and return that of the checkpoint."""
    row = {"trial_uid": key.trial_uid, "epoch": seen.fidelity}
    tx.connection.execute(
        _ADD_MEASUREMENT,
        {
            **row,
            "attempt": key.number,
            "metrics_json": metrics_json,
            "elapsed_s": float(seen.elapsed_s),
            "recorded": tx.now(),
        },
    )
    if seen.checkpoint is None:
        return None
    kept = asdict(seen.checkpoint)
    tx.connection.execute(_ADD_CHECKPOINT, {**row, **kept})
    return kept


def finish(
    tx: Transaction, lease: Lease, uid: str, key: AttemptKey | None, outcome: OutcomeRow
) -> None:
    """Finish a trial.

    Raises:
        StaleAttemptError: The trial is RUNNING, and the attempt is not its newest.
        IllegalTransitionError: The trial has ended, or may not enter this state.
        ValueError: A number is not finite, or values do not fit the state.
    """
    check_values(outcome.state, outcome.values)
    leases.require(tx, lease)
    found = _current(tx, lease, uid)
    if key is not None:
        _check_newest(key, found)
    if (
        not outcome.state.is_terminal
        or outcome.state not in LEGAL_TRANSITIONS[TrialState(found.state)]
    ):
        raise IllegalTransitionError(uid, found.state, outcome.state)
    if found.state == TrialState.RUNNING:
        _check_fence(key or AttemptKey(trial_uid=uid, number=0, fence=""), found)
        _end_attempt(tx, uid, found.attempts, outcome.state.lower(), outcome.failure)
    tx.connection.execute(
        _END_TRIAL,
        {
            "of_trial": uid,
            "to_state": outcome.state.value,
            "why": outcome.reason,
            "to_values": optional_json(outcome.values),
            "to_violations": to_json(dict(outcome.violations)),
            "because": optional_json(outcome.failure),
            "at": tx.now(),
        },
    )
    attempt_number = None if key is None else key.number
    append_finished(tx, lease, outcome, uid=uid, number=found.number, attempt=attempt_number)


def end_by_operator(tx: Transaction, lease: Lease, uid: str) -> None:
    """End an open trial as PRUNED with the reason `operator`, whatever attempt runs it."""
    found = _current(tx, lease, uid)
    key = None
    if found.state == TrialState.RUNNING:
        key = AttemptKey(trial_uid=uid, number=found.attempts, fence=found.fence)
    outcome = OutcomeRow(
        state=TrialState.PRUNED,
        reason=OPERATOR,
        values=None,
        violations=json.loads(found.violations_json),
        failure=None,
    )
    finish(tx, lease, uid, key, outcome)


def append_finished(
    tx: Transaction,
    lease: Lease,
    outcome: OutcomeRow | Trial,
    *,
    uid: str,
    number: int,
    attempt: int | None,
) -> None:
    """Append the event of a trial's terminal state."""
    payload = {
        "uid": uid,
        "number": number,
        "attempt": attempt,
        **{field.name: getattr(outcome, field.name) for field in fields(OutcomeRow)},
    }
    tx.append(lease.study_id, lease.generation, "trial_finished", payload)


def requeue(
    tx: Transaction,
    lease: Lease,
    key: AttemptKey,
    outcome: str,
    failure: Mapping[str, Any] | None,
) -> None:
    """End an attempt and set its trial to WAITING.

    Raises:
        StaleAttemptError: The attempt is not the trial's newest, or has ended.
    """
    leases.require(tx, lease)
    found = _current(tx, lease, key.trial_uid)
    _check_fence(key, found)
    _return_to_waiting(
        tx,
        lease,
        key.trial_uid,
        number=found.number,
        attempt_number=key.number,
        outcome=outcome,
        failure=failure,
    )


def requeue_all(tx: Transaction, lease: Lease) -> None:
    """Requeue every RUNNING trial, whose driver has died."""
    for found in tx.connection.execute(_RUNNING, {"of_study": lease.study_id}).all():
        _return_to_waiting(
            tx,
            lease,
            found.uid,
            number=found.number,
            attempt_number=found.attempts,
            outcome="lost",
        )


def _return_to_waiting(
    tx: Transaction,
    lease: Lease,
    uid: str,
    *,
    number: int,
    attempt_number: int,
    outcome: str,
    failure: Mapping[str, Any] | None = None,
) -> None:
    tx.connection.execute(_WAIT_AGAIN, {"of_trial": uid, "because": optional_json(failure)})
    _end_attempt(tx, uid, attempt_number, outcome, failure)
    payload = {
        "uid": uid,
        "number": number,
        "attempt": attempt_number,
        "outcome": outcome,
        "failure": failure,
    }
    tx.append(lease.study_id, lease.generation, "trial_given_back", payload)


def _end_attempt(
    tx: Transaction, uid: str, number: int, outcome: str, failure: Mapping[str, Any] | None
) -> None:
    tx.connection.execute(
        _END_ATTEMPT,
        {
            "of_trial": uid,
            "of_number": number,
            "at": tx.now(),
            "how": outcome,
            "because": optional_json(failure),
        },
    )


def _current(tx: Transaction, lease: Lease, uid: str, *, epoch: int = 0) -> Any:
    """Return the trial's state, its newest attempt, and the attempt that measured the epoch."""
    found = tx.connection.execute(
        _CURRENT, {"of_trial": uid, "of_study": lease.study_id, "epoch": epoch}
    ).one_or_none()
    if found is None:
        raise UnknownTrialError(f"study {lease.study_id} has no trial {uid}")
    return found


def _check_newest(key: AttemptKey, found: Any) -> None:
    if key.number != found.attempts:
        raise StaleAttemptError(key, f"attempt {found.attempts} is the trial's newest")
    if key.fence != found.fence:
        raise StaleAttemptError(key, "its fence is wrong")


def _check_fence(key: AttemptKey, found: Any) -> None:
    _check_newest(key, found)
    if found.ended is not None:
        raise StaleAttemptError(key, f"it has ended, and the trial is {found.state}")
