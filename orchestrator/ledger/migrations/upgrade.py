"""Run Alembic's revisions up to the newest one."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from orchestrator.ledger.errors import SchemaUnknownError
from orchestrator.ledger.schema import HEAD


def upgrade(connection: Connection, found: str | None) -> None:
    """Upgrade a database of a known revision.

    Args:
        connection: Connection in a write transaction.
        found: Revision of the database; None creates the tables.

    Raises:
        SchemaUnknownError: This release does not know the revision.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaUnknownError(
            f"the ledger's schema is at revision {found!r}, which this release (up to {HEAD!r}) "
            "does not know: a newer archscout wrote it; use that one, or another ledger"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
