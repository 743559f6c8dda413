"""Mutation: neighbours of a known candidate, for constraints that random sampling seldom meets."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from search_spaces.domains.suggester import grid_point

T = TypeVar("T")
_PARTIAL = 0.5


def architecture_decisions(params: Mapping[str, Any]) -> dict[str, Any]:
    """The decisions that limits depend on: those of the architecture where names tell it apart."""
    found = {name: value for name, value in params.items() if name.startswith("architecture")}
    return found or dict(params)


class MutatingSuggester:
    """Answers as another candidate does, but for some decisions, which tend downwards."""

    def __init__(
        self, known: Mapping[str, Any], changed: frozenset[str] | None, chance: random.Random
    ) -> None:
        """Answers nothing yet.

        Args:
            known: The other candidate's answers.
            changed: Names to answer otherwise; None puts every number at its lowest.
            chance: Decides what was not known.
        """
        self.params: dict[str, Any] = {}
        self._known = known
        self._changed = changed
        self._chance = chance

    def suggest_int(
        self,
        name: str,
        low: int,
        high: int,
        *,
        step: int = 1,
        log: bool = False,  # noqa: ARG002
    ) -> int:
        """A whole number in the range."""
        return int(
            self._number(name, low, high, lambda: self._chance.randrange(low, high + 1, step))
        )

    def suggest_float(
        self,
        name: str,
        low: float,
        high: float,
        *,
        step: float | None = None,
        log: bool = False,  # noqa: ARG002
    ) -> float:
        """A number in the range."""

        def draw() -> float:
            if step is None:
                return self._chance.uniform(low, high)
            steps = self._chance.randint(0, int((high - low) / step + 1e-8))
            return grid_point(low, step, steps)

        return float(self._number(name, low, high, draw))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        kept = any(
            type(self._known.get(name)) is type(c) and self._known[name] == c for c in choices
        )
        return self._answer(name, kept, lambda: self._chance.choice(choices))

    def _number(self, name: str, low: float, high: float, draw: Callable[[], float]) -> float:
        def downwards() -> float:
            return low if self._changed is None or self._chance.random() < _PARTIAL else draw()

        known = self._known.get(name)
        kept = isinstance(known, int | float) and low <= known <= high
        return self._answer(name, kept, downwards)

    def _answer(self, name: str, kept: bool, draw: Callable[[], T]) -> T:
        if name not in self.params:
            changed = self._changed is None or name in self._changed
            self.params[name] = self._known[name] if kept and not changed else draw()
        answer: T = self.params[name]
        return answer
