"""Which data a study trains on, and how it is split: plain data, nothing is read here."""

from dataclasses import dataclass

NO_DATA = "none"
"""Source, and digest, of the data of a study whose own training names no data."""

SERVED_STREAMS = frozenset({"image", "vector"})
"""Kinds of input that the data sources give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """A data source and its split; equal specs give equal examples in equal order."""

    source: str
    """Name of the source: `digits`, `idx`, `surrogate`, ..."""
    path: str | None = None
    """File or folder, for sources that read one."""
    validation: float = 0.2
    """Validation examples: a share below 1, or a count."""
    test: float = 0.1
    """Sealed test examples: a share below 1, or a count; unused where the source brings its own."""
    split_seed: int = 0
    """Seed of the split."""
    limit: int | None = None
    """Most examples to take before the split; None takes all."""
