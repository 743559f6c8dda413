"""The ledger's identity, which its MLflow runs and its folders in a home carry.

A copy of the database has the same identity.
"""

import time
import uuid

from alembic import op
from sqlalchemy import Column, Double, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table and its one row."""
    made = op.create_table(
        "identity",
        Column("id", Text, primary_key=True),
        Column("created", Double, nullable=False),
    )
    op.bulk_insert(made, [{"id": uuid.uuid4().hex, "created": time.time()}])
