"""Who answers a space's questions: a sampler, chance, or a record of earlier answers.

Knows names, ranges and choices only: not what is decided by them. An `optuna.Trial` is a Suggester
as it is.
"""

import math
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from search_spaces.errors import ArchscoutError
from search_spaces.plugins import did_you_mean

Question = tuple[Any, ...]
"""What was asked under a name: its kind, followed by range or choices."""


class SuggestionError(ArchscoutError, ValueError):
    """An answer is missing, lies outside its range, or a name was asked in two ways."""


class Suggester(Protocol):
    """Answers questions by name; the same name gives the same answer for as long as it lives."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number from `low` to `high`, both included."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from `low` to `high`; on the grid that starts at `low` where `step` is given."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...


def grid_steps(low: float, high: float, step: float) -> int | None:
    """How many whole steps lead from `low` to `high` in decimal notation; None if they do not."""
    span = Decimal(repr(high)) - Decimal(repr(low))
    steps, rest = divmod(span, Decimal(repr(step)))
    return None if rest else int(steps)


def grid_point(low: float, step: float, steps: int) -> float:
    """The number so many steps above `low`, as people write it: 0.3, not 0.30000000000000004."""
    return float(Decimal(repr(low)) + steps * Decimal(repr(step)))


def on_grid(value: float, low: float, step: float) -> bool:
    """Whether a number is some whole steps above `low`, but for the dust of binary fractions.

    Samplers compute `low + k * step` in their own ways, so 0.1 + 2 * 0.1 comes as
    0.30000000000000004 from one and as 0.3 from another: both are the same grid point.
    """
    steps = (value - low) / step
    return abs(steps - round(steps)) < 1e-8


class RandomSuggester:
    """Answers by chance, equally for equal seeds and equal questions."""

    def __init__(self, seed: int, given: Mapping[str, Any] | None = None) -> None:
        """Let chance answer, but for what is given.

        Args:
            seed: Seed of chance.
            given: Answers that stand already, by name; each must be an option of its question.
        """
        self.params: dict[str, Any] = dict(given or {})
        """What was answered so far, by name, in the order of the questions."""
        self.questions: dict[str, Question] = {}
        """What was asked so far, by name, in order."""
        self._random = random.Random(seed)  # noqa: S311 - draws of a search, no secrets

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number, evenly spread, or evenly in its logarithm."""
        if self._is_new(name, ("int", low, high, step, log)):
            self.params[name] = (
                self._log_int(low, high) if log else self._random.randrange(low, high + 1, step)
            )
        return int(self.params[name])

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number, evenly spread, or evenly in its logarithm."""
        if self._is_new(name, ("float", low, high, step, log)):
            self.params[name] = self._float(low, high, step, log)
        return float(self.params[name])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Any of the choices, equally likely."""
        if self._is_new(name, ("categorical", *choices)):
            self.params[name] = self._random.choice(choices)
        return self.params[name]

    def _is_new(self, name: str, question: Question) -> bool:
        known = self.questions.setdefault(name, question)
        if known != question:
            raise SuggestionError(
                f"{name}: asked as {known} and as {question}; one name must have one domain"
            )
        return name not in self.params

    def _log_int(self, low: int, high: int) -> int:
        drawn = math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5)))
        return min(max(round(drawn), low), high)

    def _float(self, low: float, high: float, step: float | None, log: bool) -> float:
        if step is not None:
            steps = self._random.randint(0, math.floor((high - low) / step + 1e-8))
            drawn = grid_point(low, step, steps)
        elif log:
            drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            drawn = self._random.uniform(low, high)
        return min(max(drawn, low), high)


class ReplaySuggester:
    """Answers from a record, and refuses what the record does not hold or the question excludes."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = dict(params)
        self._asked: set[str] = set()

    def unused(self) -> tuple[str, ...]:
        """Names of the record that nobody asked for."""
        return tuple(name for name in self._params if name not in self._asked)

    def suggest_int(
        self,
        name: str,
        low: int,
        high: int,
        *,
        step: int = 1,
        log: bool = False,  # noqa: ARG002
    ) -> int:
        """The recorded whole number.

        Raises:
            SuggestionError: It is missing, no whole number, or outside the range.
        """
        value = self._answer(name)
        fits = type(value) is int and low <= value <= high and (value - low) % step == 0
        if not fits:
            raise SuggestionError(f"{name}: {value!r} is no whole number {_span(low, high, step)}")
        return int(value)

    def suggest_float(
        self,
        name: str,
        low: float,
        high: float,
        *,
        step: float | None = None,
        log: bool = False,  # noqa: ARG002
    ) -> float:
        """The recorded number, to the last bit.

        Raises:
            SuggestionError: It is missing, no number, or outside the range.
        """
        value = self._answer(name)
        fits = type(value) in (int, float) and low <= value <= high
        if not fits or (step is not None and not on_grid(value, low, step)):
            raise SuggestionError(f"{name}: {value!r} is no number {_span(low, high, step)}")
        return float(value)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The recorded choice.

        Raises:
            SuggestionError: It is missing, or none of the choices.
        """
        value = self._answer(name)
        for choice in choices:
            if type(choice) is type(value) and choice == value:
                return choice
        offered = ", ".join(repr(choice) for choice in choices)
        hint = did_you_mean(str(value), [str(choice) for choice in choices])
        raise SuggestionError(f"{name}: {value!r} is none of {offered}.{hint}")

    def _answer(self, name: str) -> Any:
        if name not in self._params:
            hint = did_you_mean(name, self._params)
            raise SuggestionError(f"{name}: the parameters do not decide this.{hint}")
        self._asked.add(name)
        return self._params[name]


def _span(low: float, high: float, step: float | None) -> str:
    stepping = "" if step in (None, 1) else f" in steps of {step}"
    return f"from {low} to {high}{stepping}"
