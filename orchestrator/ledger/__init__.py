"""The ledger: studies, trials, attempts, measurements and leases, in SQLite or PostgreSQL.

The only package that imports SQLAlchemy and Alembic. docs/ledger.md describes the tables.
"""

from orchestrator.ledger.errors import (
    AliasMovedError,
    IllegalTransitionError,
    LeaseHeldError,
    LeaseLostError,
    LedgerError,
    LedgerUnavailableError,
    NumberMismatchError,
    PromotionHeldError,
    SchemaUnknownError,
    StaleAttemptError,
    StudyConflictError,
    StudyGoneError,
    StudyNeededError,
    UnknownStudyError,
    UnknownTrialError,
)
from orchestrator.ledger.leases import LEASE_S, Holder, Lease
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import AttemptRecord, Effect, Event, Promotion, Request, StudyRow

__all__ = [
    "LEASE_S",
    "AliasMovedError",
    "AttemptRecord",
    "Effect",
    "Event",
    "Holder",
    "IllegalTransitionError",
    "Lease",
    "LeaseHeldError",
    "LeaseLostError",
    "Ledger",
    "LedgerError",
    "LedgerUnavailableError",
    "NumberMismatchError",
    "Promotion",
    "PromotionHeldError",
    "Request",
    "SchemaUnknownError",
    "StaleAttemptError",
    "StudyConflictError",
    "StudyGoneError",
    "StudyNeededError",
    "StudyRow",
    "UnknownStudyError",
    "UnknownTrialError",
]
