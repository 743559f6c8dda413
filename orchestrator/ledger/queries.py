"""Queries of the ledger: a constant number of queries for any number of rows."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, exists, func, select

from orchestrator.ledger.records import AttemptRecord, Event, StudyRow
from orchestrator.ledger.schema import (
    attempt,
    checkpoint,
    event,
    identity,
    measurement,
    projection,
    study,
)
from orchestrator.ledger.schema import trial as trial_table
from orchestrator.ledger.serialization import columns_of, from_row
from orchestrator.objective import under_constraints
from orchestrator.trial import CONTINUE, PAUSED, Trial, TrialState
from search_spaces.space import Constraint
from workers.measurement import CheckpointRef, Measurement

_IDENTITY = select(identity.c.id).order_by(identity.c.created, identity.c.id).limit(1)
_STUDIES = select(study).order_by(study.c.id)
_STUDY = select(study).where(study.c.name == bindparam("of_name"))
_CURSOR = select(projection.c.cursor).where(projection.c.study_id == bindparam("of_study"))
_EVENTS = (
    select(*columns_of(Event, event))
    .where(event.c.study_id == bindparam("of_study"), event.c.id > bindparam("after"))
    .order_by(event.c.id)
    .limit(bindparam("at_most"))
)
_CHECKPOINTS = (
    select(checkpoint.c.path, checkpoint.c.manifest_sha256, checkpoint.c.bytes)
    .where(checkpoint.c.trial_uid == bindparam("of_trial"))
    .order_by(checkpoint.c.epoch.desc())
)
_NUM_MEASURED = (
    select(func.count())
    .where(
        measurement.c.trial_uid == attempt.c.trial_uid,
        measurement.c.attempt == attempt.c.number,
    )
    .scalar_subquery()
    .label("measured")
)
_ATTEMPTS = (
    select(*columns_of(AttemptRecord, attempt), _NUM_MEASURED)
    .where(attempt.c.trial_uid == bindparam("of_trial"))
    .order_by(attempt.c.number)
)
_LEFT_AT_RUNG = (
    exists()
    .where(
        attempt.c.trial_uid == trial_table.c.uid,
        attempt.c.number == trial_table.c.attempts,
        attempt.c.outcome == PAUSED,
    )
    .label("left_at_rung")
)
_TRIALS = select(*columns_of(Trial, trial_table), _LEFT_AT_RUNG).order_by(trial_table.c.number)
_CONFIG = (
    select(study.c.config_json)
    .join_from(trial_table, study, study.c.id == trial_table.c.study_id)
    .limit(1)
)
_MEASURED = (
    select(
        measurement.c.trial_uid,
        measurement.c.epoch,
        measurement.c.metrics_json,
        measurement.c.elapsed_s,
        checkpoint.c.path,
        checkpoint.c.manifest_sha256,
        checkpoint.c.bytes,
    )
    .join_from(trial_table, measurement, measurement.c.trial_uid == trial_table.c.uid)
    .outerjoin(
        checkpoint,
        and_(
            checkpoint.c.trial_uid == measurement.c.trial_uid,
            checkpoint.c.epoch == measurement.c.epoch,
        ),
    )
    .order_by(measurement.c.trial_uid, measurement.c.epoch)
)


def read_identity(connection: Connection) -> str:
    """Return the ledger's identity, created with its tables."""
    return str(connection.execute(_IDENTITY).scalar_one())


def read_study(connection: Connection, name: str) -> StudyRow | None:
    """Return the study of this name, if there is one."""
    found = connection.execute(_STUDY, {"of_name": name}).one_or_none()
    return None if found is None else StudyRow(**found._asdict())


def read_studies(connection: Connection) -> list[StudyRow]:
    """Return all studies, oldest first."""
    return [StudyRow(**found._asdict()) for found in connection.execute(_STUDIES)]


def read_trials(connection: Connection, *conditions: ColumnElement[bool]) -> list[Trial]:
    """Return the trials that meet all conditions, by number, with their measurements."""
    measured = _group(connection.execute(_MEASURED.where(*conditions)))
    rows = connection.execute(_TRIALS.where(*conditions)).all()
    bounds = _read_bounds(connection, *conditions)
    found: dict[str, Trial] = {}
    for row in rows:
        trial = _to_trial(row, measured.get(row.uid, ()), bounds)
        if trial.kind == CONTINUE:
            parent = found.get(trial.parent or "")
            trial = trial.after(parent or _read_parent(connection, trial))
        found[trial.uid] = trial
    return list(found.values())


def _read_parent(connection: Connection, trial: Trial) -> Trial:
    return read_trials(connection, trial_table.c.uid == trial.parent)[0]


def _read_bounds(connection: Connection, *conditions: ColumnElement[bool]) -> list[Constraint]:
    """Return the constraints of the trials' study as they are now: a request may change them."""
    config = connection.scalar(_CONFIG.where(*conditions))
    known = {} if config is None else json.loads(config)
    return [Constraint(**each) for each in known.get("constraints", ())]


def read_checkpoints(connection: Connection, uid: str) -> list[CheckpointRef]:
    """Return the trial's checkpoints, newest first."""
    return [
        CheckpointRef(**found._asdict())
        for found in connection.execute(_CHECKPOINTS, {"of_trial": uid})
    ]


def read_attempts(connection: Connection, uid: str) -> list[AttemptRecord]:
    """Return the trial's attempts, oldest first."""
    rows = connection.execute(_ATTEMPTS, {"of_trial": uid})
    return [AttemptRecord(**from_row(row)) for row in rows]


def read_events(connection: Connection, study_id: int, after: int, limit: int) -> list[Event]:
    """Return up to `limit` events of the study after the id `after`, in order."""
    given = {"of_study": study_id, "after": after, "at_most": limit}
    return [Event(**from_row(row)) for row in connection.execute(_EVENTS, given)]


def read_cursor(connection: Connection, study_id: int) -> int:
    """Return the id of the last projected event; 0 before the first."""
    return connection.scalar(_CURSOR, {"of_study": study_id}) or 0


def _group(rows: Iterable[Any]) -> dict[str, list[Measurement]]:
    grouped: defaultdict[str, list[Measurement]] = defaultdict(list)
    for uid, epoch, metrics, elapsed_s, path, manifest, size in rows:
        kept = path and CheckpointRef(path=path, manifest_sha256=manifest, bytes=size)
        grouped[uid].append(
            Measurement(
                fidelity=epoch, metrics=json.loads(metrics), elapsed_s=elapsed_s, checkpoint=kept
            )
        )
    return grouped


def _to_trial(
    row: Row[*tuple[Any, ...]], measured: Sequence[Measurement], bounds: Sequence[Constraint]
) -> Trial:
    fields = from_row(row)
    values = fields["values"]
    fields["values"] = None if values is None else tuple(values)
    fields["state"] = TrialState(fields["state"])
    fields["left_at_rung"] = bool(fields["left_at_rung"])
    return under_constraints(Trial(**fields, measurements=tuple(measured)), bounds)
