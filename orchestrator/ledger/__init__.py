"""The ledger: studies, trials, attempts, measurements and leases, in SQLite or PostgreSQL.

The one place that knows SQLAlchemy and Alembic. docs/ledger.md describes the tables.
"""

from orchestrator.ledger.errors import (
    AliasMoved,
    IllegalMove,
    LeaseHeld,
    LeaseLost,
    LedgerError,
    LedgerUnavailable,
    NumberMismatch,
    PromotionHeld,
    SchemaUnknown,
    StaleAttempt,
    StudyConflict,
    StudyGone,
    StudyNeeded,
    UnknownStudy,
    UnknownTrial,
)
from orchestrator.ledger.leases import LEASE_S, Holder, Lease
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import AttemptRecord, Event, NewTrial, Promotion, Request, StudyRow

__all__ = [
    "LEASE_S",
    "AliasMoved",
    "AttemptRecord",
    "Event",
    "Holder",
    "IllegalMove",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Ledger",
    "LedgerError",
    "LedgerUnavailable",
    "NewTrial",
    "NumberMismatch",
    "Promotion",
    "PromotionHeld",
    "Request",
    "SchemaUnknown",
    "StaleAttempt",
    "StudyConflict",
    "StudyGone",
    "StudyNeeded",
    "StudyRow",
    "UnknownStudy",
    "UnknownTrial",
]
