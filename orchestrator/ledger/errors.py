"""What the ledger refuses, each refusal with its way out.

Callers catch these; no exception of the database's own driver leaves the ledger. The names say what
is the case rather than ending in Error.
"""

from collections.abc import Sequence

from search_spaces.errors import ArchscoutError, ExitCode
from workers.job import AttemptKey


class LedgerError(ArchscoutError):
    """The ledger did not do what it was asked."""

    exit_code = ExitCode.INPUT


class LedgerUnavailableError(LedgerError):
    """The database could not be reached, is locked for too long, or its disk is full."""

    exit_code = ExitCode.INTERRUPTED


class SchemaUnknownError(LedgerError):
    """The database was written by a newer release, or is not a ledger."""


class UnknownStudyError(LedgerError):
    """No study has this name or id."""


class StudyGoneError(LedgerError):
    """The study was deleted while it was in use."""

    exit_code = ExitCode.INTERRUPTED


class StudyNeededError(LedgerError):
    """A study cannot be deleted while something refers to it."""

    exit_code = ExitCode.REFUSED


class UnknownTrialError(LedgerError):
    """The study has no such trial."""


class StudyConflictError(LedgerError):
    """A study of this name exists and was started from something else."""

    def __init__(self, name: str, stored_config: str, differing: Sequence[str]) -> None:
        self.name = name
        self.stored_config = stored_config
        """The configuration that the study was started with, as canonical JSON."""
        self.differing = tuple(differing)
        """Names of the columns of `study` that differ."""
        super().__init__(
            f"study {name!r} exists with another {', '.join(differing)}: "
            "give the new one another name, or restore what it was started with and resume it"
        )


class LeaseHeldError(LedgerError):
    """Another driver runs the study."""

    exit_code = ExitCode.REFUSED

    def __init__(self, name: str, *, holder: str, host: str, pid: int, until: float) -> None:
        self.name = name
        self.holder = holder
        """The lease's holder as the ledger spells it."""
        self.host = host
        self.pid = pid
        self.until = until
        """Seconds since the epoch after which anybody may take the lease over."""
        super().__init__(
            f"study {name!r} is being run by process {pid} on {host}: wait until it ends, or stop "
            f"it there (kill -TERM {pid}); a driver that died elsewhere is replaced after 30 s"
        )


class LeaseLostError(LedgerError):
    """Another driver took the study over; nothing was written."""

    exit_code = ExitCode.REFUSED

    def __init__(self, study_id: int, held: int, found: int | None) -> None:
        self.study_id = study_id
        super().__init__(
            f"the lease of study {study_id} (generation {held}) is no longer ours "
            f"(now {'released' if found is None else f'generation {found}'}): nothing was written; "
            "this driver must stop, the study goes on with whoever holds it"
        )


class StaleAttemptError(LedgerError):
    """Not the trial's newest attempt, or one that has ended; nothing was written."""

    def __init__(self, key: AttemptKey, found: str) -> None:
        self.key = key
        super().__init__(
            f"attempt {key.number} of trial {key.trial_uid} may not write: {found}; "
            "its worker should exit"
        )


class IllegalTransitionError(LedgerError):
    """A trial's state may not change in this way."""

    def __init__(self, uid: str, state: str, wanted: str) -> None:
        self.uid = uid
        self.state = state
        self.wanted = wanted
        super().__init__(
            f"trial {uid} is {state} and cannot become {wanted}; to go on from an ended trial, "
            "add a new one with it as parent"
        )


class NumberMismatchError(LedgerError):
    """A trial was to be added under a number that is not the study's next one."""

    def __init__(self, given: int, expected: int) -> None:
        self.expected = expected
        super().__init__(
            f"trial numbers are dense: the study's next is {expected}, not {given}; "
            "read its trials again"
        )


class PromotionHeldError(LedgerError):
    """Another process works on the same promotion."""

    exit_code = ExitCode.REFUSED


class AliasMovedError(LedgerError):
    """Another promotion moved the alias first; it points to a version that proved itself."""

    exit_code = ExitCode.REFUSED

    def __init__(self, model: str, alias: str, what: str) -> None:
        super().__init__(
            f"{model}@{alias} stays as it is: {what} since the comparison; "
            "promote again to be compared with the new champion"
        )
