"""Port of pruners: which trials train beyond a rung, and which paused trial continues next."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from orchestrator.trial import Trial


class Pruner(Protocol):
    """Decides at rungs from measurements alone.

    Every decision is a pure function of the observed trials, in any order, so that a resumed study
    decides as the uninterrupted one. Trial 0 and trials of other kinds than `search` are never
    pruned. Run `orchestrator.testing.PrunerContract` on an implementation.
    """

    @property
    def rungs(self) -> tuple[int, ...]:
        """Fidelities at which running trials are judged now, ascending, without the maximum."""
        ...

    def observe(self, trial: Trial) -> None:
        """Record a trial's measurements and its state; repeating it changes nothing."""
        ...

    def promotes(self, trial: Trial, fidelity: int) -> bool:
        """Return whether a trial trains beyond a fidelity that it has reached."""
        ...

    def next_promoted(self, paused: Iterable[Trial]) -> Trial | None:
        """Return the paused trial to continue next; None if all of them stay paused."""
        ...

    def surplus(self, paused: Iterable[Trial]) -> Sequence[Trial]:
        """Return the paused trials to end, so that their number stays bounded."""
        ...
