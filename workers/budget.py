"""Budget: the fidelities at which the trials of one study are compared.

Plain arithmetic, without a scheduler and without the number of batches in an epoch.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Budget:
    """Training length of a trial and the rungs of successive halving, checked when it is made.

    Examples:
        >>> Budget(minimum=1, maximum=9, reduction_factor=3).rungs()
        (1, 3, 9)
    """

    unit: Literal["epoch"] = "epoch"
    """Unit of the fidelities."""
    minimum: Annotated[int, Field(strict=True, ge=1)] = 1
    """Fidelity of the first rung."""
    maximum: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 9
    """Fidelity at which a trial is complete."""
    reduction_factor: Annotated[int, Field(strict=True, ge=2)] = 3
    """One in this many trials is promoted from a rung to the next."""

    def __post_init__(self) -> None:
        """Refuse a minimum above the maximum.

        Raises:
            ValueError: It is.
        """
        if self.minimum > self.maximum:
            raise ValueError(
                f"minimum {self.minimum} is above maximum {self.maximum}; "
                "lower the minimum or raise the maximum"
            )

    def rungs(self) -> tuple[int, ...]:
        """Return the fidelities at which trials are compared, ascending; `maximum` is the last."""
        rungs = []
        fidelity = self.minimum
        while fidelity < self.maximum:
            rungs.append(fidelity)
            fidelity *= self.reduction_factor
        return (*rungs, self.maximum)
