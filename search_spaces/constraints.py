"""Limits that a trial must keep, as arithmetic on one measured or counted number."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A metric that must not exceed a bound."""

    metric: str
    """Name of the metric, e.g. `parameters`."""
    at_most: float
    """The bound, above zero; meeting it exactly is feasible."""

    def __post_init__(self) -> None:
        """Refuse bounds that give no scale to a violation.

        Raises:
            ValueError: The bound is not a finite number above zero.
        """
        if not (math.isfinite(self.at_most) and self.at_most > 0):
            raise ValueError(f"constraint on {self.metric}: at_most must be finite and above zero")

    def violation(self, value: float) -> float:
        """By which share of the bound a value exceeds it; zero or less is feasible."""
        return value / self.at_most - 1
