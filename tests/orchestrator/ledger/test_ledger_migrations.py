"""The schema: created and migrated without drift; one of a newer release is refused."""

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

from orchestrator.clock import SystemClock
from orchestrator.ledger import Ledger, LedgerError, SchemaUnknownError, maintenance, migrations
from orchestrator.ledger.database import Database, read_url
from orchestrator.ledger.outage import Outage
from orchestrator.ledger.schema import HEAD, VERSION_TABLE, metadata


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return ScriptDirectory.from_config(config)


def test_the_code_and_alembic_agree_on_the_newest_revision() -> None:
    assert _scripts().get_heads() == [HEAD]


def test_migrations_from_nothing_make_exactly_the_tables_that_the_code_uses(url: str) -> None:
    database = Database(url, SystemClock(), Outage(0.0, print))
    with database._engine.connect() as connection, connection.begin():
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:
            checks = {check["name"] for check in found.get_check_constraints(table.name)}
            wanted = {c.name for c in table.constraints if type(c).__name__ == "CheckConstraint"}
            assert checks == wanted
    database.close()


@pytest.mark.parametrize("released", ["0001", "0002", "0003", "0004"])
def test_a_ledger_of_every_released_schema_opens_and_keeps_its_rows(
    url: str, released: str
) -> None:
    name = f"old-{uuid.uuid4().hex}"
    _make(url, released, name)
    with Ledger.open(url) as ledger:
        row = ledger.study(name)
        assert row is not None
        assert (row.config_json, row.state, row.spent_s) == ("{}", "finished", 2.0)
        assert (row.space_version, row.teacher_sha256) == ("1", None)
        identity = ledger.identity
        assert [trial.space_version for trial in ledger.trials(row.id)] == [None]
    assert re.fullmatch("[0-9a-f]{32}", identity)
    with Ledger.open(url) as again:
        assert again.identity == identity
    found = maintenance.check(url)
    assert found.revision == HEAD
    assert [problem for problem in found.problems if "identity" in problem] == []


def test_two_ledgers_have_two_identities(tmp_path: Path) -> None:
    names = set()
    for name in ("a.db", "b.db"):
        with Ledger.open(tmp_path / name) as ledger:
            names.add(ledger.identity)
    assert len(names) == 2


@pytest.mark.parametrize("released", ["0001", "0002"])
def test_a_teacher_in_the_version_of_a_space_moves_to_its_own_column(
    url: str, released: str
) -> None:
    name = f"distilled-{uuid.uuid4().hex}"
    _make(url, released, name, space_version="1+teacher.0123456789abcdef")
    with Ledger.open(url) as ledger:
        row = ledger.study(name)
    assert row is not None
    assert (row.space_version, row.teacher_sha256) == ("1", "0123456789abcdef")
    assert row.space == "s 1+teacher.0123456789abcdef"


def _make(url: str, revision: str, name: str, *, space_version: str = "1") -> None:
    """Create a ledger with the schema of this revision, and a study in it."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    engine = create_engine(read_url(url))
    with engine.begin() as connection:
        _to(connection, revision)
        connection.exec_driver_sql(
            "INSERT INTO study (name, config_json, space_name, space_version, data_digest, created,"
            f" state, spent_s) VALUES ('{name}', '{{}}', 's', '{space_version}', 'd', 1.0,"
            " 'finished', 2.0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO trial (uid, study_id, number, kind, params_json, distributions_json,"
            " candidate_json, describe, digest, state, violations_json, cost_json, seed, attempts,"
            f" sampler_attrs_json, created) SELECT '{uuid.uuid4().hex}', id, 0, 'search', '{{}}',"
            " '{}', '{}', '', 'd', 'WAITING', '{}', '{}', 1, 0, '{}', 1.0 FROM study WHERE"
            f" name = '{name}'"
        )
    engine.dispose()


def _to(connection: Connection, revision: str) -> None:
    """Bring a database to a revision; the one that tests share is there already."""
    if migrations.revision(connection) != HEAD:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        return
    if revision < "0004":
        connection.exec_driver_sql("ALTER TABLE trial DROP COLUMN space_version")
    if revision < "0003":
        connection.exec_driver_sql("ALTER TABLE study DROP COLUMN teacher_sha256")
    if revision < "0002":
        connection.exec_driver_sql("DROP TABLE identity")
    connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")


def test_another_programs_alembic_table_in_the_same_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    with Ledger.open(path) as ledger:
        assert ledger.studies() == []
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT * FROM alembic_version").all() == [("theirs",)]
    engine.dispose()


def test_a_ledger_of_a_newer_release_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    engine.dispose()
    before = path.read_bytes()
    with pytest.raises(SchemaUnknownError, match=r"'9999', which this release .* does not know"):
        Ledger.open(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="not a database"):
        Ledger.open(path)
    assert path.read_bytes() == before


def test_reopening_a_ledger_loads_no_alembic(
    tmp_path: Path, child_environment: dict[str, str]
) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    code = (
        "import sys; from pathlib import Path; from orchestrator.ledger import Ledger;"
        "Ledger.open(Path(sys.argv[1])).close();"
        "print(sorted({'alembic', 'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=child_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_every_column_and_every_kind_of_event_is_explained() -> None:
    page = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text()
    sources = Path(migrations.__file__).parents[1].glob("*.py")
    code = "".join(path.read_text() for path in sources)
    kinds = set(re.findall(r'tx\.append\([^"]*"(\w+)"', code))
    assert len(kinds) == 15
    columns = {column.name for table in metadata.sorted_tables for column in table.columns}
    assert sorted(word for word in columns | kinds if f"`{word}`" not in page) == []
