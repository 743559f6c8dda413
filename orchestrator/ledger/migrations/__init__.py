"""Brings a database to the newest schema, or refuses one that is newer than this release.

Revisions are run by Alembic from inside the package; no alembic.ini is needed. A database that is
at the newest revision is recognised by a query, without loading Alembic.
"""

from pathlib import Path

from sqlalchemy import Connection, Engine, column, inspect, select, table

from orchestrator.ledger.errors import SchemaUnknownError
from orchestrator.ledger.schema import HEAD, VERSION_TABLE

ADVISORY_LOCK = 0x61726368
"""PostgreSQL's lock for what concerns the whole ledger; every release uses this number."""


def migrate(engine: Engine, reader: Engine) -> None:
    """Create or upgrade the tables; a second process at the same moment waits and finds them made.

    Args:
        engine: Begins transactions that write.
        reader: Begins transactions that only read, and so wait for nobody.

    Raises:
        SchemaUnknownError: The database is at a revision that this release does not have.
    """
    with reader.connect() as connection, connection.begin():
        if revision(connection) == HEAD:
            return
    with engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        if revision(connection) != HEAD:
            _upgrade(connection)


def revision(connection: Connection) -> str | None:
    """The schema revision that the database is at; None for one without our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    # Loaded only here: most starts find the newest schema and need no Alembic.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    found = revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaUnknownError(
            f"the ledger's schema is at revision {found!r}, which this release (up to {HEAD!r}) "
            "does not know: a newer archscout wrote it; use that one, or another ledger"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
