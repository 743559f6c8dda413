"""Port of samplers: the methods that candidate generation calls."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from orchestrator.trial import Trial
from search_spaces.domains.suggester import Suggester


class Draw(Protocol):
    """One proposal under way: its suggester, and the decisions that were asked for so far."""

    @property
    def suggester(self) -> Suggester:
        """Samples decisions; resolve the space with it."""
        ...

    @property
    def params(self) -> dict[str, Any]:
        """Sampled decisions by name."""
        ...

    @property
    def distributions(self) -> dict[str, str]:
        """Optuna's JSON of each decision's distribution by name."""
        ...


D = TypeVar("D", bound=Draw)


class Sampler(Protocol[D]):
    """Samples candidates from a study's history.

    A draw is a pure function of the seed, the history and (`number`, `redraw`), so that a resumed
    study samples what the uninterrupted one would have sampled. Run
    `orchestrator.testing.SamplerContract` on an implementation.
    """

    def rebuild(self, trials: Iterable[Trial]) -> None:
        """Enter the ledger's trials; unfinished ones become open."""
        ...

    def draw(self, number: int, redraw: int, given: Mapping[str, Any] | None = None) -> D:
        """Begin the proposal for a trial.

        Args:
            number: The trial's number in its study.
            redraw: Index of the proposal for this number; 0 for the first.
            given: Decisions that are fixed, by name.
        """
        ...

    def drop(self, draw: D) -> None:
        """Forget a draw that does not become a trial."""
        ...

    def attributes(self, draw: D) -> dict[str, Any]:
        """Return what must be stored with the trial to rebuild the sampler, as JSON data."""
        ...

    def keep(self, draw: D, uid: str, number: int) -> None:
        """Enter a draw that became a trial; it stays open until `conclude`."""
        ...

    def reopen(self, trial: Trial) -> None:
        """Enter a trial of the ledger as open."""
        ...

    def conclude(self, trial: Trial) -> None:
        """Enter the outcome of an open trial."""
        ...
