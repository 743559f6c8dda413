"""Rungs: the fidelities at which trials of one study are compared.

Knows arithmetic only: no scheduler, no epochs of a particular dataset.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How far a trial may be trained, and where it is first judged."""

    maximum: int
    """Fidelity at which a trial counts as COMPLETE."""
    minimum: int = 1
    """Fidelity of the first judgement."""
    reduction_factor: int = 3
    """One in this many trials goes on from a rung to the next."""
    unit: str = "epoch"
    """What one step of fidelity is."""

    def __post_init__(self) -> None:
        """Refuse budgets without rungs.

        Raises:
            ValueError: A field is out of its range.
        """
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(f"budget needs 1 <= minimum <= maximum, not {self}")
        if self.reduction_factor < 2:
            raise ValueError(f"budget.reduction_factor must be at least 2, not {self}")
        if self.unit != "epoch":
            raise ValueError(f"budget.unit must be 'epoch', not {self.unit!r}")

    def rungs(self) -> tuple[int, ...]:
        """The fidelities of judgement, rising, the last being `maximum`."""
        rungs = []
        fidelity = self.minimum
        while fidelity < self.maximum:
            rungs.append(fidelity)
            fidelity *= self.reduction_factor
        return (*rungs, self.maximum)
