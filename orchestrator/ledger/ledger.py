"""The ledger: the only memory of studies, trials and what was seen of them.

Every method that writes returns after its transaction is on disk: what it acknowledged is kept.
Knows no sampler, no engine and no tracker: they are functions of what it holds.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import bindparam, update

from orchestrator.clock import Clock, SystemClock
from orchestrator.ledger import leases, queries, requests, rows, transitions
from orchestrator.ledger.database import Database, Transaction
from orchestrator.ledger.errors import UnknownStudyError, UnknownTrialError
from orchestrator.ledger.leases import Holder, Lease
from orchestrator.ledger.outage import Outage
from orchestrator.ledger.promotions import Promotions
from orchestrator.ledger.records import AttemptRecord, Event, Request, StudyRow
from orchestrator.ledger.schema import projection, trial
from orchestrator.ledger.serialization import finite
from orchestrator.trial import Trial, TrialState
from workers.failpoints import fault
from workers.job import AttemptKey
from workers.measurement import CheckpointRef, Measurement

T = TypeVar("T")

_ADVANCE = (
    update(projection)
    .where(projection.c.study_id == bindparam("of_study"), projection.c.cursor < bindparam("to"))
    .values(cursor=bindparam("to"), updated=bindparam("at"))
)
_REWIND = (
    update(projection)
    .where(projection.c.study_id == bindparam("of_study"))
    .values(cursor=0, updated=bindparam("at"))
)


class Ledger:
    """One database of studies; safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        clock: Clock | None = None,
        patience_s: float = 0.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Open a ledger; file, folders and tables are made where they are missing.

        Args:
            url: A file for SQLite, or a SQLAlchemy URL (`sqlite:///FILE`, `postgresql://...`).
            clock: Tells the time; this machine's by default.
            patience_s: How long a server that goes away afterwards is waited for.
            tell: Told when one is, and when it is back.

        Raises:
            LedgerError: No ledger can be opened there; the message says why.
        """
        return cls(Database(url, clock or SystemClock(), Outage(patience_s, tell)))

    @property
    def name(self) -> str:
        """Where it lives, without any password."""
        return self._database.name

    @property
    def identity(self) -> str:
        """Its own name for good; what it left in MLflow and in folders bears it."""
        return self._database.read(queries.read_identity)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def cancel_wait(self) -> None:
        """Wait no more for a server that is away; a call that does in another thread gives up."""
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
        """Take the lease of a study, which is created if it is new.

        Every trial that a previous driver left RUNNING becomes WAITING.

        Args:
            name: The study's name.
            config_json: Its configuration; None resumes what is stored, and compares nothing.
            space_name: Name of its search space.
            space_version: The space's version.
            teacher_sha256: Digest of the teacher's manifest, if there is a teacher.
            data_digest: Digest of its data.
            code_digest: Digest of the user's own Python, if there is any.
            metadata: Plain data recorded with its creation, never compared; for readers of events.
            holder: The process that will drive it.

        Raises:
            StudyConflictError: It exists and was started from something else.
            UnknownStudyError: It does not exist and no configuration was given.
            LeaseHeldError: Another driver runs it.
        """
        given = {
            "config_json": config_json,
            "space_name": space_name,
            "space_version": space_version,
            "teacher_sha256": teacher_sha256,
            "data_digest": data_digest,
            "code_digest": code_digest,
        }
        return self._write(
            "study_opened", lambda tx: rows.open_study(tx, name, given, metadata or {}, holder)
        )

    def study(self, name: str) -> StudyRow | None:
        """The study of this name, if there is one."""
        return self._database.read(lambda connection: queries.read_study(connection, name))

    def studies(self) -> list[StudyRow]:
        """All studies, oldest first."""
        return self._database.read(queries.read_studies)

    def renew(self, lease: Lease) -> Lease:
        """The lease, lasting another 30 s from now.

        Raises:
            LeaseLostError: Another driver has it.
        """
        return self._write("lease_renewed", lambda tx: leases.renew(tx, lease))

    def release(self, lease: Lease) -> None:
        """Give the lease back, so that the next driver need not wait.

        Raises:
            LeaseLostError: Another driver has it.
        """
        self._write("lease_released", lambda tx: leases.release(tx, lease))

    def require_free(self, row: StudyRow) -> None:
        """Raise LeaseHeldError where a driver runs a study now."""
        self._database.write(lambda tx: leases.require_free(tx, row.id, row.name))

    def require_deletable(self, row: StudyRow) -> None:
        """Raise LeaseHeldError or StudyNeededError where `delete_study` would."""
        self._database.write(lambda tx: rows.require_deletable(tx, row))

    def delete_study(self, name: str, holder: Holder) -> None:
        """Remove a study with all its trials; afterwards no promotion of one can begin.

        Raises:
            UnknownStudyError: There is none.
            LeaseHeldError: A driver runs it.
            StudyNeededError: A promotion is under way, or a study needs it.
        """
        if (row := self.study(name)) is None:
            raise UnknownStudyError(f"no study {name!r} in this ledger; `archscout list` shows all")
        self._database.write(lambda tx: rows.delete_study(tx, row, holder))

    def set_study_state(self, lease: Lease, state: str) -> None:
        """Say how the study stands: `running`, `finished`, `interrupted` or `broken`."""
        self._write("state_set", lambda tx: rows.set_state(tx, lease, state))

    def set_study_config(self, lease: Lease, config_json: str) -> None:
        """Replace the study's config by one that decides more."""
        self._write("config_set", lambda tx: rows.set_config(tx, lease, config_json))

    def add_spent(self, lease: Lease, seconds: float) -> None:
        """Add to the driver time that the study has used."""
        finite("spent_s", seconds)
        self._write("spent_added", lambda tx: rows.add_spent(tx, lease, seconds))

    # Trials

    def add_trial(self, lease: Lease, new: Trial) -> Trial:
        """Add a trial under the study's next number.

        Raises:
            NumberMismatchError: The number is not the study's next.
            LeaseLostError: Another driver has the study.
            ValueError: A number is not finite, or values do not fit the state.
        """
        return self._write("trial_added", lambda tx: rows.add_trial(tx, lease, new))

    def start_attempt(
        self, lease: Lease, uid: str, *, node: str | None = None, pid: int | None = None
    ) -> AttemptKey:
        """Turn a WAITING trial into a RUNNING one; the key is what its worker must show.

        Raises:
            IllegalTransitionError: The trial is not WAITING.
            LeaseLostError: Another driver has the study.
        """
        return self._write(
            "attempt_started",
            lambda tx: transitions.start_attempt(tx, lease, uid, node=node, pid=pid),
        )

    def record(self, lease: Lease, key: AttemptKey, seen: Measurement) -> bool:
        """Keep a measurement and its checkpoint.

        Returns:
            Whether it was kept; an epoch that has been measured before is not, the first wins.

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
        """End a trial for good; this happens once.

        Args:
            lease: The study's.
            uid: The trial's.
            key: The attempt that ended; None for a trial that is WAITING.
            state: COMPLETE, PRUNED or FAIL.
            reason: Why, in one word.
            values: Objective values; given if, and only if, it is COMPLETE.
            violations: By constraint; at most 0 is feasible.
            failure: The classified failure, if there was one.

        Raises:
            StaleAttemptError: The attempt is not the trial's newest, or has ended.
            IllegalTransitionError: The trial has ended already, or may not go to this state.
            LeaseLostError: Another driver has the study.
            ValueError: A number is not finite, or values do not fit the state.
        """
        ending = transitions.OutcomeRow(
            state=state,
            reason=reason,
            values=values,
            violations=dict(violations or {}),
            failure=failure and dict(failure),
        )
        return self._write("finished", lambda tx: _finish(tx, lease, uid, key, ending))

    def requeue(
        self,
        lease: Lease,
        key: AttemptKey,
        outcome: str,
        *,
        failure: Mapping[str, Any] | None = None,
    ) -> None:
        """Close an attempt and let its trial wait for another one.

        Args:
            lease: The study's.
            key: The attempt's.
            outcome: Why it ended, in one word: `interrupted`, or a failure's class.
            failure: The classified failure, if there was one.

        Raises:
            StaleAttemptError: The attempt is not the trial's newest, or has ended.
            LeaseLostError: Another driver has the study.
        """
        why = failure and dict(failure)
        self._write("given_back", lambda tx: transitions.requeue(tx, lease, key, outcome, why))

    def trials(self, study_id: int) -> list[Trial]:
        """All trials of a study by number, with their measurements."""
        return self._database.read(
            lambda connection: queries.read_trials(connection, trial.c.study_id == study_id)
        )

    def trial(self, study_id: int, number: int) -> Trial:
        """One trial, with its measurements.

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
        """The trial's attempts, oldest first."""
        return self._database.read(lambda connection: queries.read_attempts(connection, uid))

    def checkpoints(self, uid: str) -> list[CheckpointRef]:
        """The trial's checkpoints, newest first."""
        return self._database.read(lambda connection: queries.read_checkpoints(connection, uid))

    # Requests

    def ask(self, study_id: int, kind: str, payload: Mapping[str, Any]) -> int:
        """Ask a study's driver for something; whether there is one now does not matter.

        Returns:
            The request's id; that of the open one, if the same was asked before.
        """
        return self._write("asked", lambda tx: requests.ask(tx, study_id, kind, payload))

    def requests(self, study_id: int) -> list[Request]:
        """What was asked of a study and has no answer, oldest first."""
        return self._database.read(lambda connection: requests.read_open(connection, study_id))

    def answer(self, lease: Lease, request_id: int, said: Mapping[str, Any]) -> None:
        """Say what came of a request; the first answer stays.

        Raises:
            LeaseLostError: Another driver has the study.
        """
        self._write("answered", lambda tx: requests.answer(tx, lease, request_id, said))

    def answer_to(self, request_id: int) -> dict[str, Any] | None:
        """What was said to a request; None while nothing was."""
        return self._database.read(lambda connection: requests.read_answer(connection, request_id))

    @property
    def promotions(self) -> Promotions:
        """What was taken into the model registry, and by whom."""
        return Promotions(self._database)

    # Events and their projection

    def events(self, study_id: int, after: int, limit: int = 1000) -> list[Event]:
        """Up to `limit` events of a study later than `after`, in order; 0 is before the first."""
        return self._database.read(
            lambda connection: queries.read_events(connection, study_id, after, limit)
        )

    def cursor(self, study_id: int) -> int:
        """The last event that the projection has shown; 0 before the first."""
        return self._database.read(lambda connection: queries.read_cursor(connection, study_id))

    def advance(self, study_id: int, cursor: int) -> None:
        """Remember the last event that the projection has shown; earlier ones change nothing."""

        def work(tx: Transaction) -> None:
            tx.connection.execute(_ADVANCE, {"of_study": study_id, "to": cursor, "at": tx.now()})

        self._write("cursor_advanced", work)

    def show_anew(self, study_id: int) -> None:
        """Let the projection begin again at the first event; no projection may be running."""

        def work(tx: Transaction) -> None:
            tx.connection.execute(_REWIND, {"of_study": study_id, "at": tx.now()})

        self._write("cursor_rewound", work)

    def _write(self, name: str, work: Callable[[Transaction], T]) -> T:
        """Do the work in one transaction, between two points at which a test may break it."""

        def done(tx: Transaction) -> T:
            made = work(tx)
            fault(f"{name}.uncommitted")
            return made

        made = self._database.write(done)
        fault(f"{name}.committed")
        return made


def _finish(
    tx: Transaction, lease: Lease, uid: str, key: AttemptKey | None, ending: transitions.OutcomeRow
) -> Trial:
    transitions.finish(tx, lease, uid, key, ending)
    return queries.read_trials(tx.connection, trial.c.uid == uid)[0]
