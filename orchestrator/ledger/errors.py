"""Errors of the ledger, each with a suggested fix.

No exception of a database driver leaves the ledger.
"""

from collections.abc import Sequence

from search_spaces.errors import ArchscoutError, ExitCode
from workers.job import AttemptKey


class LedgerError(ArchscoutError):
    """Base class of the ledger's errors."""

    exit_code = ExitCode.INPUT


class LedgerUnavailableError(LedgerError):
    """The database does not answer, is locked for too long, or its disk is full."""

    exit_code = ExitCode.INTERRUPTED


class SchemaUnknownError(LedgerError):
    """The database was written by a newer release, or is not a ledger."""


class UnknownStudyError(LedgerError):
    """No study has this name or id."""


class StudyGoneError(LedgerError):
    """The study was deleted while a driver ran it."""

    exit_code = ExitCode.INTERRUPTED


class StudyNeededError(LedgerError):
    """The study cannot be deleted, as something refers to it."""

    exit_code = ExitCode.REFUSED


class UnknownTrialError(LedgerError):
    """The study has no such trial."""


class StudyConflictError(LedgerError):
    """A study of this name exists with other inputs."""

    def __init__(self, name: str, stored_config: str, differing: Sequence[str]) -> None:
        self.name = name
        self.stored_config = stored_config
        """Configuration of the existing study, as canonical JSON."""
        self.differing = tuple(differing)
        """Names of the columns of `study` that differ."""
        super().__init__(
            f"study {name!r} exists with another {', '.join(differing)}: "
            "give the new one another name, or restore these inputs and resume it"
        )


class LeaseHeldError(LedgerError):
    """Another driver runs the study."""

    exit_code = ExitCode.REFUSED

    def __init__(self, name: str, *, holder: str, host: str, pid: int, until: float) -> None:
        self.name = name
        self.holder = holder
        """Holder of the lease, as the ledger stores it."""
        self.host = host
        self.pid = pid
        self.until = until
        """End of the lease, in seconds since the epoch."""
        super().__init__(
            f"study {name!r} is being run by process {pid} on {host}: wait until it ends, or stop "
            f"it there (kill -TERM {pid}); a driver that died elsewhere is replaced after 30 s"
        )


class LeaseLostError(LedgerError):
    """Another driver has taken over the study; nothing was written."""

    exit_code = ExitCode.REFUSED

    def __init__(self, study_id: int, held: int, found: int | None) -> None:
        self.study_id = study_id
        super().__init__(
            f"the lease of study {study_id} (generation {held}) is no longer ours "
            f"(now {'released' if found is None else f'generation {found}'}): nothing was written; "
            "this driver must stop; the holder of the lease continues the study"
        )


class StaleAttemptError(LedgerError):
    """The attempt has ended or is not the trial's newest; nothing was written."""

    def __init__(self, key: AttemptKey, found: str) -> None:
        self.key = key
        super().__init__(
            f"attempt {key.number} of trial {key.trial_uid} may not write: {found}; "
            "its worker should exit"
        )


class IllegalTransitionError(LedgerError):
    """The trial may not enter this state."""

    def __init__(self, uid: str, state: str, wanted: str) -> None:
        self.uid = uid
        self.state = state
        self.wanted = wanted
        super().__init__(
            f"trial {uid} is {state} and cannot become {wanted}; to continue an ended trial, "
            "add a new one with it as parent"
        )


class NumberMismatchError(LedgerError):
    """The number of a new trial is not the study's next one."""

    def __init__(self, given: int, expected: int) -> None:
        self.expected = expected
        super().__init__(
            f"trial numbers are consecutive: the study's next is {expected}, not {given}; "
            "read its trials again"
        )


class PromotionHeldError(LedgerError):
    """Another process works on the same promotion."""

    exit_code = ExitCode.REFUSED


class AliasMovedError(LedgerError):
    """Another promotion has moved the alias to a verified version."""

    exit_code = ExitCode.REFUSED

    def __init__(self, model: str, alias: str, what: str) -> None:
        super().__init__(
            f"{model}@{alias} stays as it is: {what} since the comparison; "
            "promote again to be compared with the new champion"
        )
