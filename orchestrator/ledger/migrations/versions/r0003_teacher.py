"""The teacher's digest in a column of its own; before, it was a suffix of `space_version`."""

from alembic import op
from sqlalchemy import Column, MetaData, Table, Text, select, update

revision = "0003"
down_revision = "0002"

_SUFFIX = "+teacher."


def upgrade() -> None:
    """Add the column, and split `VERSION+teacher.DIGEST` of earlier studies into both columns."""
    op.add_column("study", Column("teacher_sha256", Text))
    connection = op.get_bind()
    study = Table("study", MetaData(), autoload_with=connection)
    distilled = select(study.c.id, study.c.space_version).where(
        study.c.space_version.contains(_SUFFIX)
    )
    for study_id, stored in connection.execute(distilled).all():
        version, _, digest = stored.rpartition(_SUFFIX)
        split = update(study).where(study.c.id == study_id)
        connection.execute(split.values(space_version=version, teacher_sha256=digest))
