"""The ledger's tables. Their names are public: independent checkers read them by plain SQL.

docs/ledger.md explains every column. A change here needs a migration; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

HEAD = "0004"
"""Newest schema revision; a ledger of this revision is opened without loading Alembic."""

VERSION_TABLE = "archscout_version"
"""Table of the revision; not Alembic's default name, which MLflow and Optuna use."""

metadata = MetaData()

# SQLite generates ids only for a column of the type INTEGER.
_row_id = BigInteger().with_variant(Integer, "sqlite")


def _study_id(*, primary_key: bool = False) -> "Column[int]":
    return Column("study_id", ForeignKey("study.id"), primary_key=primary_key, nullable=False)


def _trial_uid() -> "Column[str]":
    return Column("trial_uid", ForeignKey("trial.uid"), primary_key=True)


identity = Table(
    "identity",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created", Double, nullable=False),
)

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("config_json", Text, nullable=False),
    Column("space_name", Text, nullable=False),
    Column("space_version", Text, nullable=False),
    Column("data_digest", Text, nullable=False),
    Column("code_digest", Text),
    Column("created", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("spent_s", Double, nullable=False),
    Column("teacher_sha256", Text),
    CheckConstraint(
        "state IN ('running', 'finished', 'interrupted', 'broken')", name="study_state_known"
    ),
    sqlite_autoincrement=True,
)

trial = Table(
    "trial",
    metadata,
    Column("uid", Text, primary_key=True),
    _study_id(),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("parent", ForeignKey("trial.uid")),
    Column("params_json", Text, nullable=False),
    Column("distributions_json", Text, nullable=False),
    Column("candidate_json", Text, nullable=False),
    Column("describe", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("values_json", Text),
    Column("violations_json", Text, nullable=False),
    Column("cost_json", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failure_json", Text),
    Column("sampler_attrs_json", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("space_version", Text),
    UniqueConstraint("study_id", "number", name="trial_number_once"),
    CheckConstraint(
        "state IN ('WAITING', 'RUNNING', 'COMPLETE', 'PRUNED', 'FAIL')", name="trial_state_known"
    ),
    CheckConstraint(
        "kind IN ('search', 'continue', 'retry', 'confirm', 'replay')", name="trial_kind_known"
    ),
    CheckConstraint(
        "(ended IS NOT NULL) = (state IN ('COMPLETE', 'PRUNED', 'FAIL'))", name="trial_end_dated"
    ),
    CheckConstraint(
        "(values_json IS NOT NULL) = (state = 'COMPLETE')", name="trial_complete_valued"
    ),
)

attempt = Table(
    "attempt",
    metadata,
    _trial_uid(),
    Column("number", Integer, primary_key=True),
    Column("fence", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("node", Text),
    Column("pid", Integer),
    Column("started", Double, nullable=False),
    Column("ended", Double),
    Column("outcome", Text),
    Column("failure_json", Text),
    Index(
        "attempt_open_once",
        "trial_uid",
        unique=True,
        sqlite_where=text("ended IS NULL"),
        postgresql_where=text("ended IS NULL"),
    ),
    sqlite_with_rowid=False,
)

measurement = Table(
    "measurement",
    metadata,
    Column("trial_uid", Text, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("metrics_json", Text, nullable=False),
    Column("elapsed_s", Double, nullable=False),
    Column("recorded", Double, nullable=False),
    ForeignKeyConstraint(["trial_uid", "attempt"], ["attempt.trial_uid", "attempt.number"]),
    sqlite_with_rowid=False,
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("trial_uid", Text, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    ForeignKeyConstraint(["trial_uid", "epoch"], ["measurement.trial_uid", "measurement.epoch"]),
    sqlite_with_rowid=False,
)

lease = Table(
    "lease",
    metadata,
    _study_id(primary_key=True),
    Column("holder", Text),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("until", Double, nullable=False),
    Column("until_monotonic", Double, nullable=False),
)

request = Table(
    "request",
    metadata,
    Column("id", _row_id, primary_key=True),
    _study_id(),
    Column("kind", Text, nullable=False),
    Column("payload_json", Text, nullable=False),
    Column("recorded", Double, nullable=False),
    Column("answered", Double),
    Column("answer_json", Text),
    sqlite_autoincrement=True,
)

event = Table(
    "event",
    metadata,
    Column("id", _row_id, primary_key=True),
    _study_id(),
    Column("kind", Text, nullable=False),
    Column("payload_json", Text, nullable=False),
    Column("recorded", Double, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("operation", Text, nullable=False),
    Index("event_by_study", "study_id", "id"),
    sqlite_autoincrement=True,
)

projection = Table(
    "projection",
    metadata,
    _study_id(primary_key=True),
    Column("cursor", BigInteger, nullable=False),
    Column("updated", Double, nullable=False),
)

promotion = Table(
    "promotion",
    metadata,
    Column("op_id", Text, primary_key=True),
    Column("study_id", ForeignKey("study.id")),
    Column("trial_uid", ForeignKey("trial.uid")),
    Column("model", Text, nullable=False),
    Column("alias", Text),
    Column("version", Integer),
    Column("state", Text, nullable=False),
    Column("expected_version", Integer),
    Column("detail_json", Text, nullable=False),
    Column("recorded", Double, nullable=False),
    Column("updated", Double, nullable=False),
)
