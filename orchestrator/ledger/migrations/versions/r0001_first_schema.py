"""The first schema: studies, trials, attempts, measurements, leases, events, promotions.

Triggers enforce the state machine of trials too: no other program can change an ended trial, the
definition of a trial, or a measurement.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")
_ENDED = "('COMPLETE', 'PRUNED', 'FAIL')"
_FIXED = (
    "uid", "study_id", "number", "kind", "parent", "params_json", "distributions_json",
    "candidate_json", "describe", "digest", "cost_json", "seed", "sampler_attrs_json", "created",
)  # fmt: skip


def upgrade() -> None:
    """Make all tables and their guards."""
    _make_study()
    _make_trial()
    _make_attempt()
    _make_measurement()
    _make_lease()
    _make_event()
    _make_promotion()
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql()
    else:
        _guard_sqlite()


def _make_study() -> None:
    op.create_table(
        "study",
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
        CheckConstraint(
            "state IN ('running', 'finished', 'interrupted', 'broken')", name="study_state_known"
        ),
        sqlite_autoincrement=True,
    )


def _make_trial() -> None:
    op.create_table(
        "trial",
        Column("uid", Text, primary_key=True),
        Column("study_id", Integer, ForeignKey("study.id"), nullable=False),
        Column("number", Integer, nullable=False),
        Column("kind", Text, nullable=False),
        Column("parent", Text, ForeignKey("trial.uid")),
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
        UniqueConstraint("study_id", "number", name="trial_number_once"),
        *_trial_checks(),
    )


def _trial_checks() -> list[CheckConstraint]:
    return [
        CheckConstraint(f"state IN ('WAITING', 'RUNNING', {_ENDED[1:]}", name="trial_state_known"),
        CheckConstraint(
            "kind IN ('search', 'continue', 'retry', 'confirm', 'replay')", name="trial_kind_known"
        ),
        CheckConstraint(f"(ended IS NOT NULL) = (state IN {_ENDED})", name="trial_end_dated"),
        CheckConstraint(
            "(values_json IS NOT NULL) = (state = 'COMPLETE')", name="trial_complete_valued"
        ),
    ]


def _make_attempt() -> None:
    op.create_table(
        "attempt",
        Column("trial_uid", Text, ForeignKey("trial.uid"), primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("fence", Text, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("node", Text),
        Column("pid", Integer),
        Column("started", Double, nullable=False),
        Column("ended", Double),
        Column("outcome", Text),
        Column("failure_json", Text),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "attempt_open_once",
        "attempt",
        ["trial_uid"],
        unique=True,
        sqlite_where=text("ended IS NULL"),
        postgresql_where=text("ended IS NULL"),
    )


def _make_measurement() -> None:
    op.create_table(
        "measurement",
        Column("trial_uid", Text, primary_key=True),
        Column("epoch", Integer, primary_key=True),
        Column("attempt", Integer, nullable=False),
        Column("metrics_json", Text, nullable=False),
        Column("elapsed_s", Double, nullable=False),
        Column("recorded", Double, nullable=False),
        ForeignKeyConstraint(["trial_uid", "attempt"], ["attempt.trial_uid", "attempt.number"]),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoint",
        Column("trial_uid", Text, primary_key=True),
        Column("epoch", Integer, primary_key=True),
        Column("path", Text, nullable=False),
        Column("manifest_sha256", Text, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        ForeignKeyConstraint(
            ["trial_uid", "epoch"], ["measurement.trial_uid", "measurement.epoch"]
        ),
        sqlite_with_rowid=False,
    )


def _make_lease() -> None:
    op.create_table(
        "lease",
        Column("study_id", Integer, ForeignKey("study.id"), primary_key=True),
        Column("holder", Text),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("process_started", Text, nullable=False),
        Column("boot_id", Text, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("until", Double, nullable=False),
        Column("until_monotonic", Double, nullable=False),
    )


def _make_event() -> None:
    op.create_table(
        "request",
        Column("id", _ROW_ID, primary_key=True),
        Column("study_id", Integer, ForeignKey("study.id"), nullable=False),
        Column("kind", Text, nullable=False),
        Column("payload_json", Text, nullable=False),
        Column("recorded", Double, nullable=False),
        Column("answered", Double),
        Column("answer_json", Text),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "event",
        Column("id", _ROW_ID, primary_key=True),
        Column("study_id", Integer, ForeignKey("study.id"), nullable=False),
        Column("kind", Text, nullable=False),
        Column("payload_json", Text, nullable=False),
        Column("recorded", Double, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("operation", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("event_by_study", "event", ["study_id", "id"])
    op.create_table(
        "projection",
        Column("study_id", Integer, ForeignKey("study.id"), primary_key=True),
        Column("cursor", BigInteger, nullable=False),
        Column("updated", Double, nullable=False),
    )


def _make_promotion() -> None:
    op.create_table(
        "promotion",
        Column("op_id", Text, primary_key=True),
        Column("study_id", Integer, ForeignKey("study.id")),
        Column("trial_uid", Text, ForeignKey("trial.uid")),
        Column("model", Text, nullable=False),
        Column("alias", Text),
        Column("version", Integer),
        Column("state", Text, nullable=False),
        Column("expected_version", Integer),
        Column("detail_json", Text, nullable=False),
        Column("recorded", Double, nullable=False),
        Column("updated", Double, nullable=False),
    )


def _guard_sqlite() -> None:
    changed = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in _FIXED)
    guards = {
        "trial_end_is_final": ("trial", f"OLD.state IN {_ENDED}", "an ended trial never changes"),
        "trial_moves_legally": (
            "trial",
            "OLD.state = 'WAITING' AND NEW.state = 'COMPLETE'",
            "a waiting trial cannot become COMPLETE",
        ),
        "trial_keeps_question": ("trial", changed, "what a trial was asked never changes"),
        "measurement_is_final": ("measurement", "1", "a measurement never changes"),
        "event_is_final": ("event", "1", "an event never changes"),
    }
    for name, (table, when, message) in guards.items():
        op.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} WHEN {when} "
            f"BEGIN SELECT RAISE(ABORT, 'archscout: {message}'); END"
        )


def _guard_postgresql() -> None:
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in _FIXED)
    op.execute(
        f"""CREATE FUNCTION archscout_guard_trial() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF OLD.state IN {_ENDED} THEN
                RAISE EXCEPTION 'archscout: an ended trial never changes';
            ELSIF OLD.state = 'WAITING' AND NEW.state = 'COMPLETE' THEN
                RAISE EXCEPTION 'archscout: a waiting trial cannot become COMPLETE';
            ELSIF {changed} THEN
                RAISE EXCEPTION 'archscout: what a trial was asked never changes';
            END IF;
            RETURN NEW;
        END $$"""
    )
    op.execute(
        """CREATE FUNCTION archscout_refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'archscout: a row of % never changes', TG_TABLE_NAME;
        END $$"""
    )
    for table, function in {
        "trial": "archscout_guard_trial",
        "measurement": "archscout_refuse_update",
        "event": "archscout_refuse_update",
    }.items():
        op.execute(
            f"CREATE TRIGGER {table}_is_guarded BEFORE UPDATE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()"
        )
