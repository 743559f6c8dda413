"""The version of the space that each trial was sampled from; before, a study had only one."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; it stays NULL in trials of earlier releases, which never change."""
    op.add_column("trial", Column("space_version", Text))
