"""Budget: the fidelities at which the trials of one study are compared.

Plain arithmetic, without a scheduler and without the number of batches in an epoch.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

Minimum = Annotated[
    Annotated[int, Field(strict=True, ge=1), Tag("number")]
    | Annotated[Literal["auto"], Tag("word")],
    Discriminator(lambda given: "word" if isinstance(given, str) else "number"),
]
"""Fidelity of the first rung, or `auto`."""


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Budget:
    """Training length of a trial and the rungs of successive halving, checked when it is made.

    Examples:
        >>> Budget(minimum=1, maximum=9, reduction_factor=3).rungs()
        (1, 3, 9)
    """

    unit: Literal["epoch"] = "epoch"
    """Unit of the fidelities."""
    minimum: Minimum = "auto"
    """Fidelity of the first rung; with `auto` the pruner chooses it from the study's curves."""
    maximum: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 9
    """Fidelity at which a trial is complete."""
    reduction_factor: Annotated[int, Field(strict=True, ge=2)] = 3
    """One in this many trials is promoted from a rung to the next."""

    def __post_init__(self) -> None:
        """Refuse a minimum above the maximum.

        Raises:
            ValueError: It is.
        """
        if self.minimum != "auto" and self.minimum > self.maximum:
            raise ValueError(
                f"minimum {self.minimum} is above maximum {self.maximum}; "
                "lower the minimum or raise the maximum"
            )

    @property
    def latest_first_rung(self) -> int:
        """Highest first rung that `auto` chooses, at least 1."""
        return max(1, round(self.maximum / self.reduction_factor))

    @property
    def earliest_first_rung(self) -> int:
        """Lowest first rung that `auto` chooses, at least 1."""
        return max(1, round(self.maximum / self.reduction_factor**2))

    def possible_rungs(self) -> tuple[int, ...]:
        """Return all fidelities at which trials may be compared, ascending; `maximum` is last.

        More than `rungs` with `auto`.
        """
        if self.minimum != "auto":
            return self.rungs()
        firsts = range(self.earliest_first_rung, self.latest_first_rung + 1)
        return tuple(sorted({rung for first in firsts for rung in self.rungs(first)}))

    def rungs(self, first: int | None = None) -> tuple[int, ...]:
        """Return the fidelities at which trials are compared, ascending; `maximum` is the last.

        With `auto`, none but the last is above three quarters of the maximum, since it would save
        little.

        Args:
            first: Fidelity of the first rung; None for `minimum`, and for the latest one that
                `auto` chooses.
        """
        if first is None:
            first = self.latest_first_rung if self.minimum == "auto" else self.minimum
        rungs = []
        last = 3 / 4 * self.maximum if self.minimum == "auto" else self.maximum - 1
        while first <= last:
            rungs.append(first)
            first *= self.reduction_factor
        return (*rungs, self.maximum)
