"""Data of a study and how it is split: plain data, read by the sources."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StrictStr
from pydantic.dataclasses import dataclass

NO_DATA = "none"
"""Source, and digest, of the data of a study whose own training names no data."""

SERVED_STREAMS = frozenset({"image", "vector"})
"""Kinds of input that the data sources give."""


def _fraction_or_count(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"{value} is neither a share below 1 nor a whole number of examples")
    return value


_Size = Annotated[
    float, Field(strict=True, ge=0, allow_inf_nan=False), AfterValidator(_fraction_or_count)
]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SplitSpec:
    """Sizes of the splits, checked when it is made: a share below 1, or a count from 1."""

    validation: Annotated[_Size, Field(gt=0)] = 0.2
    """Validation examples."""
    test: _Size = 0.1
    """Held-out test examples; unused where the source has a test split of its own."""
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    """Seed of the split."""

    def __post_init__(self) -> None:
        """Refuse shares that leave no training examples.

        Raises:
            ValueError: They sum to 1 or more.
        """
        if self.validation < 1 and self.test < 1 and self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} and test {self.test} leave nothing to train on; "
                "their shares must sum to less than 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class DataSpec:
    """A data source and its split; equal specs give equal examples in equal order.

    Examples:
        >>> DataSpec(source="digits", split=SplitSpec(validation=0.4), limit=100).split.test
        0.1
    """

    source: StrictStr = "digits"
    """Name of the source: `digits`, `idx`, `surrogate`, ..."""
    path: StrictStr | None = None
    """File or folder, for sources that read one."""
    split: SplitSpec = SplitSpec()
    limit: Annotated[int, Field(strict=True, ge=1)] | None = None
    """Maximum number of examples, taken before the split; None takes all."""
