"""Migrate a database to the newest schema, or refuse one of a newer release.

Alembic runs the revisions of this package, without an alembic.ini. A database of the newest
revision is recognized by a query, without loading Alembic.
"""

from sqlalchemy import Connection, Engine, column, inspect, select, table

from orchestrator.ledger.schema import HEAD, VERSION_TABLE

ADVISORY_LOCK = 0x61726368
"""Advisory lock of PostgreSQL for the whole ledger; the same number in every release."""


def migrate(engine: Engine, reader: Engine) -> None:
    """Create or upgrade the tables; a second process waits until they exist.

    Args:
        engine: Engine of write transactions.
        reader: Engine of read transactions, which need no lock.

    Raises:
        SchemaUnknownError: This release does not know the revision.
    """
    with reader.connect() as connection, connection.begin():
        if revision(connection) == HEAD:
            return
    with engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        if revision(connection) != HEAD:
            from orchestrator.ledger.migrations.upgrade import upgrade  # noqa: PLC0415 - loads Alembic

            upgrade(connection, revision(connection))


def revision(connection: Connection) -> str | None:
    """Return the schema revision of the database; None without our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return None if found is None else str(found)
