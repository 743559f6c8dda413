"""Entry point of Alembic: run the revisions in the transaction of `migrate`."""

from alembic import context

from orchestrator.ledger.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
