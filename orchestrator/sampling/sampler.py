"""Port of samplers: the methods that candidate generation calls."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from orchestrator.trial import Trial
from search_spaces.domains.suggester import Suggester


class Suggestion(Protocol):
    """An open suggestion: its suggester, and the values suggested so far."""

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


S = TypeVar("S", bound=Suggestion)

MAX_RESAMPLES = 10
"""Resamples after a duplicate."""


class Sampler(Protocol[S]):
    """Samples candidates from a study's history.

    A suggestion is a pure function of the seed, the history and (`number`, `resample`), so that a
    resumed study samples what the uninterrupted one would have sampled. Run
    `orchestrator.testing.SamplerContract` on an implementation.
    """

    def rebuild(self, trials: Iterable[Trial]) -> None:
        """Add the ledger's trials with their measurements; unfinished ones become open."""
        ...

    def sample(self, number: int, resample: int, fixed: Mapping[str, Any] | None = None) -> S:
        """Return the suggestion for a trial.

        Args:
            number: The trial's number in its study.
            resample: Index of the suggestion for this number; 0 for the first.
            fixed: Values that are fixed, by name.
        """
        ...

    def discard(self, suggestion: S) -> None:
        """Discard a suggestion that becomes no trial."""
        ...

    def attributes(self, suggestion: S) -> dict[str, Any]:
        """Return what must be stored with the trial to rebuild the sampler, as JSON data."""
        ...

    def keep(self, suggestion: S, uid: str, number: int) -> None:
        """Register a suggestion as a trial, which is open until `tell`."""
        ...

    def add_open(self, trial: Trial) -> None:
        """Add a trial of the ledger as open, with the measurements it has."""
        ...

    def observe(self, trial: Trial) -> None:
        """Record the measurements so far of an open trial, running or paused."""
        ...

    def tell(self, trial: Trial) -> None:
        """Record the outcome of an open trial."""
        ...
