"""The ledger: the only store of studies, trials and measurements.

Every method that writes returns after its transaction is on disk. Independent of samplers, engines
and trackers, whose states are functions of the ledger.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from orchestrator.clock import Clock, SystemClock
from orchestrator.ledger import leases, queries, requests, rows, transitions
from orchestrator.ledger.database import Database, Transaction
from orchestrator.ledger.errors import UnknownStudyError, UnknownTrialError
from orchestrator.ledger.leases import Holder, Lease
from orchestrator.ledger.outage import Outage
from orchestrator.ledger.promotions import Promotions
from orchestrator.ledger.records import AttemptRecord, Effect, Event, Request, StudyRow
from orchestrator.ledger.schema import trial
from orchestrator.ledger.serialization import finite
from orchestrator.trial import Trial, TrialState
from workers.failpoints import fault
from workers.job import AttemptKey
from workers.measurement import CheckpointRef, Measurement

T = TypeVar("T")


class Ledger:
    """One database of studies; thread-safe.

    Examples:
        >>> with Ledger.open("sqlite:///mlruns/ledger.db") as ledger:  # doctest: +SKIP
        ...     print([study.name for study in ledger.studies()])
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        clock: Clock | None = None,
        max_outage_s: float = 0.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Open a ledger; create the file, its folders and the tables if they are missing.

        Args:
            url: A file for SQLite, or a SQLAlchemy URL (`sqlite:///FILE`, `postgresql://...`).
            clock: Clock of records and leases; by default this machine's.
            max_outage_s: Longest outage of a server to wait for, in seconds.
            tell: Shows a message about an outage to the user.

        Raises:
            LedgerError: No ledger can be opened at this address.
        """
        return cls(Database(url, clock or SystemClock(), Outage(max_outage_s, tell)))

    @property
    def name(self) -> str:
        """Return its address, without any password."""
        return self._database.name

    @property
    def identity(self) -> str:
        """Return its permanent id, which its MLflow runs and its folders in a home carry."""
        return self._database.read(queries.read_identity)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def cancel_wait(self) -> None:
        """Stop waiting for a server, also in other threads."""
        self._database.cancel_wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Studies and leases

    def open_study(
        self,
        *,
        name: str,
        config_json: str | None,
        space_name: str = "",
        space_version: str = "",
        teacher_sha256: str | None = None,
        data_digest: str = "",
        code_digest: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        holder: Holder,
    ) -> tuple[StudyRow, Lease]:
        """Acquire the lease of a study, which is created if it is new.

        RUNNING trials of a previous driver are requeued.

        Args:
            name: The study's name.
            config_json: Its configuration; None resumes the stored study without a comparison.
            space_name: Name of its search space.
            space_version: The space's version.
            teacher_sha256: Digest of the teacher's manifest, if any.
            data_digest: Digest of its data.
            code_digest: Digest of the user's own Python, if any.
            metadata: Plain data recorded with its creation, never compared; for readers of events.
            holder: The process that will drive it.

        Raises:
            StudyConflictError: It exists with other inputs.
            UnknownStudyError: It does not exist and no configuration was given.
            LeaseHeldError: Another driver runs it.
        """
        given = {"config_json": config_json, "teacher_sha256": teacher_sha256}
        given |= {"space_name": space_name, "space_version": space_version}
        given |= {"data_digest": data_digest, "code_digest": code_digest}
        return self._write(
            "study_opened", lambda tx: rows.open_study(tx, name, given, metadata or {}, holder)
        )

    def study(self, name: str) -> StudyRow | None:
        """Return the study of this name, if there is one."""
        return self._database.read(lambda connection: queries.read_study(connection, name))

    def studies(self) -> list[StudyRow]:
        """Return all studies, oldest first."""
        return self._database.read(queries.read_studies)

    def renew(self, lease: Lease) -> Lease:
        """Return the lease, renewed for 30 s.

        Raises:
            LeaseLostError: Another driver has it.
        """
        return self._write("lease_renewed", lambda tx: leases.renew(tx, lease))

    def release(self, lease: Lease) -> None:
        """Release the lease, so that the next driver need not wait.

        Raises:
            LeaseLostError: Another driver has it.
        """
        self._write("lease_released", lambda tx: leases.release(tx, lease))

    def require_free(self, row: StudyRow) -> None:
        """Raise LeaseHeldError if a driver runs the study now."""
        self._database.write(lambda tx: leases.require_free(tx, row.id, row.name))

    def require_deletable(self, row: StudyRow) -> None:
        """Raise LeaseHeldError or StudyNeededError if `delete_study` would."""
        self._database.write(lambda tx: rows.require_deletable(tx, row))

    def delete_study(self, name: str, holder: Holder) -> None:
        """Delete a study with all its trials; afterwards no promotion of one can begin.

        Raises:
            UnknownStudyError: There is none.
            LeaseHeldError: A driver runs it.
            StudyNeededError: A promotion has not ended, or another study refers to it.
        """
        if (row := self.study(name)) is None:
            raise UnknownStudyError(f"no study {name!r} in this ledger; `archscout list` shows all")
        self._database.write(lambda tx: rows.delete_study(tx, row, holder))

    def set_study_state(self, lease: Lease, state: str) -> None:
        """Set the study's state: `running`, `finished`, `interrupted` or `broken` (aborted)."""
        self._write("state_set", lambda tx: rows.set_state(tx, lease, state))

    def set_study_config(self, lease: Lease, config_json: str) -> None:
        """Replace the study's config by one with fewer open choices."""
        self._write("config_set", lambda tx: rows.set_config(tx, lease, config_json))

    def add_spent(self, lease: Lease, seconds: float) -> None:
        """Add to the study's driver time, in seconds."""
        finite("spent_s", seconds)
        self._write("spent_added", lambda tx: rows.add_spent(tx, lease, seconds))

    # Trials

    def add_trial(self, lease: Lease, new: Trial) -> Trial:
        """Add a trial under the study's next number.

        Raises:
            NumberMismatchError: The number is not the study's next one.
            LeaseLostError: Another driver has the study.
            ValueError: A number is not finite, or values do not fit the state.
        """
        return self._write("trial_added", lambda tx: rows.add_trial(tx, lease, new))

    def start_attempt(
        self, lease: Lease, uid: str, *, node: str | None = None, pid: int | None = None
    ) -> AttemptKey:
        """Set a WAITING trial to RUNNING, and return the key of its new attempt.

        Raises:
            IllegalTransitionError: The trial is not WAITING.
            LeaseLostError: Another driver has the study.
        """
        return self._write(
            "attempt_started",
            lambda tx: transitions.start_attempt(tx, lease, uid, node=node, pid=pid),
        )

    def record(self, lease: Lease, key: AttemptKey, seen: Measurement) -> bool:
        """Record a measurement and its checkpoint.

        Returns:
            False if the epoch was measured before: the first measurement is kept.

        Raises:
            StaleAttemptError: The attempt is not the trial's newest, or has ended.
            LeaseLostError: Another driver has the study.
            ValueError: A metric is not finite.
        """
        return self._write("recorded", lambda tx: transitions.record(tx, lease, key, seen))

    def finish(
        self,
        lease: Lease,
        uid: str,
        *,
        key: AttemptKey | None,
        state: TrialState,
        reason: str | None = None,
        values: Sequence[float] | None = None,
        violations: Mapping[str, float] | None = None,
        failure: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Finish a trial, once and for all.

        Args:
            lease: Lease of the study.
            uid: uid of the trial.
            key: Key of the attempt that ended; None for a WAITING trial.
            state: COMPLETE, PRUNED or FAIL.
            reason: Reason in one word, such as `rung`.
            values: Objective values, exactly if it is COMPLETE.
            violations: By constraint; at most 0 is feasible.
            failure: Classified failure, if any.

        Raises:
            StaleAttemptError: The attempt is not the trial's newest, or has ended.
            IllegalTransitionError: The trial has ended, or may not enter this state.
            LeaseLostError: Another driver has the study.
            ValueError: A number is not finite, or values do not fit the state.
        """
        outcome = transitions.OutcomeRow(
            state=state,
            reason=reason,
            values=values,
            violations=dict(violations or {}),
            failure=failure and dict(failure),
        )
        return self._write("finished", lambda tx: _finish(tx, lease, uid, key, outcome))

    def requeue(
        self,
        lease: Lease,
        key: AttemptKey,
        outcome: str,
        *,
        failure: Mapping[str, Any] | None = None,
    ) -> None:
        """End an attempt and set its trial to WAITING.

        Args:
            lease: Lease of the study.
            key: Key of the attempt.
            outcome: `interrupted`, or the class of a failure.
            failure: Classified failure, if any.

        Raises:
            StaleAttemptError: The attempt is not the trial's newest, or has ended.
            LeaseLostError: Another driver has the study.
        """
        why = failure and dict(failure)
        self._write("given_back", lambda tx: transitions.requeue(tx, lease, key, outcome, why))

    def trials(self, study_id: int) -> list[Trial]:
        """Return all trials of a study by number, with their measurements."""
        return self._database.read(
            lambda connection: queries.read_trials(connection, trial.c.study_id == study_id)
        )

    def trial(self, study_id: int, number: int) -> Trial:
        """Return one trial, with its measurements.

        Raises:
            UnknownTrialError: The study has no trial of this number.
        """
        found = self._database.read(
            lambda connection: queries.read_trials(
                connection, trial.c.study_id == study_id, trial.c.number == number
            )
        )
        if not found:
            raise UnknownTrialError(f"study {study_id} has no trial {number}")
        return found[0]

    def attempts(self, uid: str) -> list[AttemptRecord]:
        """Return the trial's attempts, oldest first."""
        return self._database.read(lambda connection: queries.read_attempts(connection, uid))

    def checkpoints(self, uid: str) -> list[CheckpointRef]:
        """Return the trial's checkpoints, newest first."""
        return self._database.read(lambda connection: queries.read_checkpoints(connection, uid))

    # Requests

    def add_request(self, study_id: int, kind: str, payload: Mapping[str, Any]) -> int:
        """Add a request to the present or the next driver of a study.

        Returns:
            Id of the request; of the open one, if an equal request is open.
        """
        return self._write("asked", lambda tx: requests.add(tx, study_id, kind, payload))

    def requests(self, study_id: int, *, only_open: bool = True) -> list[Request]:
        """Return the requests of a study, oldest first; by default those that are open."""
        return self._database.read(lambda tx: requests.read(tx, study_id, only_open=only_open))

    def carry_out(self, lease: Lease, request_id: int, effect: Effect) -> bool:
        """Answer a request and record what it changes, in one transaction.

        A finished study becomes `interrupted` if the effect gives a driver something to do.

        Returns:
            False if the request was answered before: nothing is changed then.

        Raises:
            NumberMismatchError: The number of a new trial is not the study's next one.
            IllegalTransitionError: A trial to end has ended.
            LeaseLostError: Another driver has the study.
        """
        return self._write("answered", lambda tx: requests.carry_out(tx, lease, request_id, effect))

    def read_answer(self, request_id: int) -> dict[str, Any] | None:
        """Return the answer to a request; None while it is open."""
        return self._database.read(lambda connection: requests.read_answer(connection, request_id))

    @property
    def promotions(self) -> Promotions:
        """Return the promotions to the model registry."""
        return Promotions(self._database)

    # Events and their projection

    def events(self, study_id: int, after: int, limit: int = 1000) -> list[Event]:
        """Return up to `limit` events of a study after the id `after`, in order."""
        return self._database.read(
            lambda connection: queries.read_events(connection, study_id, after, limit)
        )

    def metadata(self, study_id: int) -> dict[str, Any]:
        """Return what was recorded about a study as it was created, such as its home and task."""
        first = self.events(study_id, 0, 1)
        return dict(first[0].payload.get("about") or {}) if first else {}

    def cursor(self, study_id: int) -> int:
        """Return the id of the last projected event; 0 before the first."""
        return self._database.read(lambda connection: queries.read_cursor(connection, study_id))

    def advance(self, study_id: int, cursor: int) -> None:
        """Set the id of the last projected event; an earlier one has no effect."""
        self._write("cursor_advanced", lambda tx: rows.advance(tx, study_id, cursor))

    def rewind(self, study_id: int) -> None:
        """Restart the projection at the first event; no projection may be running."""
        self._write("cursor_rewound", lambda tx: rows.rewind(tx, study_id))

    def _write(self, name: str, work: Callable[[Transaction], T]) -> T:
        """Do the work in one transaction, between two failpoints."""

        def done(tx: Transaction) -> T:
            result = work(tx)
            fault(f"{name}.uncommitted")
            return result

        result = self._database.write(done)
        fault(f"{name}.committed")
        return result


def _finish(
    tx: Transaction, lease: Lease, uid: str, key: AttemptKey | None, outcome: transitions.OutcomeRow
) -> Trial:
    transitions.finish(tx, lease, uid, key, outcome)
    return queries.read_trials(tx.connection, trial.c.uid == uid)[0]
