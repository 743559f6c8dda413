"""Suggesters: they answer the questions of a search space.

A suggester is a sampler, a random number generator or a record of earlier answers. An
`optuna.Trial` is a Suggester as it is. This module knows names, ranges and choices only, not what
they decide.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from search_spaces.errors import ArchscoutError
from search_spaces.plugins import did_you_mean


class SuggestionError(ArchscoutError, ValueError):
    """An answer is missing or outside its range, or a name has two different questions."""


class Suggester(Protocol):
    """Answers questions by name; the same name always gets the same answer."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Return an integer from `low` to `high`, both included."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number from `low` to `high`; with `step`, on the grid that starts at `low`."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""
        ...


@dataclass(frozen=True, slots=True)
class IntQuestion:
    """The arguments of `suggest_int`, without the name."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def ask(self, suggester: Suggester, name: str) -> int:
        """Return a suggester's answer."""
        return suggester.suggest_int(name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True, slots=True)
class FloatQuestion:
    """The arguments of `suggest_float`, without the name."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def ask(self, suggester: Suggester, name: str) -> float:
        """Return a suggester's answer."""
        return suggester.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """The choices of `suggest_categorical`."""

    choices: tuple[Any, ...]

    def ask(self, suggester: Suggester, name: str) -> Any:
        """Return a suggester's answer."""
        return suggester.suggest_categorical(name, self.choices)


Question = IntQuestion | FloatQuestion | ChoiceQuestion
"""A question without its name."""


# Spaces ask the same questions again and again, and one that is made once is compared at once.
_int_question = lru_cache(maxsize=4096, typed=True)(IntQuestion)
_float_question = lru_cache(maxsize=4096, typed=True)(FloatQuestion)


class BaseSuggester:
    """Base of our suggesters: reduces the three methods of a Suggester to one, `answer`.

    Example:
        class Lowest(BaseSuggester):
            def answer(self, name, question):
                return question.choices[0] if name == "kind" else question.low
    """

    def answer(self, name: str, question: Question) -> Any:
        """Return the answer to a question; subclasses implement it."""
        raise NotImplementedError

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Return the answer as an integer."""
        return int(self.answer(name, _int_question(low, high, step, log)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the answer as a float."""
        return float(self.answer(name, _float_question(low, high, step, log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the answer as it is."""
        return self.answer(name, ChoiceQuestion(tuple(choices)))


class RecordingSuggester(BaseSuggester):
    """Passes questions on to another suggester and records the answers."""

    def __init__(self, suggester: Suggester) -> None:
        """Start without answers.

        Args:
            suggester: Answers the questions.
        """
        self.params: dict[str, Any] = {}
        """Answers so far by name, in the order of the questions."""
        self._suggester = suggester

    def answer(self, name: str, question: Question) -> Any:
        """Return the other suggester's answer."""
        self.params[name] = question.ask(self._suggester, name)
        return self.params[name]


def grid_steps(low: float, high: float, step: float) -> int | None:
    """Return the number of steps from `low` to `high` in decimal notation; None if not whole."""
    span = Decimal(repr(high)) - Decimal(repr(low))
    steps, rest = divmod(span, Decimal(repr(step)))
    return None if rest else int(steps)


def grid_point(low: float, step: float, steps: int) -> float:
    """Return `low + steps * step` in decimal arithmetic: 0.3, not 0.30000000000000004."""
    return float(Decimal(repr(low)) + steps * Decimal(repr(step)))


def on_grid(value: float, low: float, step: float) -> bool:
    """Return whether a value is a whole number of steps above `low`, up to rounding errors.

    Samplers compute `low + k * step` in different ways: 0.1 + 2 * 0.1 is 0.30000000000000004 from
    one and 0.3 from another. Both are the same grid point.
    """
    steps = (value - low) / step
    return abs(steps - round(steps)) < 1e-8


def is_answer(question: Question, value: Any) -> bool:
    """Return whether a value is an answer to a question: of its type, and in its range."""
    if isinstance(question, ChoiceQuestion):
        kind = type(value)
        return any(type(c) is kind and c == value for c in question.choices)
    if not (type(value) in (int, float) and question.low <= value <= question.high):
        return False
    if isinstance(question, IntQuestion):
        return type(value) is int and (value - question.low) % question.step == 0
    return question.step is None or on_grid(value, question.low, question.step)


def sample(question: Question, rng: random.Random) -> Any:
    """Return a uniformly distributed answer, with `log` uniform in the logarithm."""
    match question:
        case ChoiceQuestion():
            return rng.choice(question.choices)
        case IntQuestion(low, high, step, log):
            if not log:
                return rng.randrange(low, high + 1, step)
            value = math.exp(rng.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(max(round(value), low), high)
        case FloatQuestion(low, high, step, log):
            if step is not None:
                value = grid_point(
                    low, step, rng.randint(0, math.floor((high - low) / step + 1e-8))
                )
            elif log:
                value = math.exp(rng.uniform(math.log(low), math.log(high)))
            else:
                value = rng.uniform(low, high)
            return min(max(value, low), high)


class RandomSuggester(BaseSuggester):
    """Answers at random; equal seeds and equal questions give equal answers."""

    def __init__(self, seed: int, given: Mapping[str, Any] | None = None) -> None:
        """Prepare the random numbers.

        Args:
            seed: Seed of the random numbers.
            given: Fixed answers by name; each must be a valid answer to its question.
        """
        self.params: dict[str, Any] = dict(given or {})
        """Answers so far by name, in the order of the questions."""
        self.questions: dict[str, Question] = {}
        """Questions so far by name, in order."""
        self._rng = random.Random(seed)  # noqa: S311 - samples of a search, no secrets

    def answer(self, name: str, question: Question) -> Any:
        """Return the fixed or earlier answer, else a random one.

        Raises:
            SuggestionError: The name had another question before.
        """
        known = self.questions.setdefault(name, question)
        if known != question:
            raise SuggestionError(
                f"{name}: asked as {known} and as {question}; one name must have one domain"
            )
        if name not in self.params:
            self.params[name] = sample(question, self._rng)
        return self.params[name]


class ReplaySuggester(BaseSuggester):
    """Answers from recorded parameters; refuses missing and invalid ones."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = dict(params)
        self._asked: set[str] = set()

    def unused(self) -> tuple[str, ...]:
        """Return the recorded names that no question asked for."""
        return tuple(name for name in self._params if name not in self._asked)

    def answer(self, name: str, question: Question) -> Any:
        """Return the recorded answer.

        Raises:
            SuggestionError: It is missing, of another type, or not a valid answer.
        """
        if name not in self._params:
            hint = did_you_mean(name, self._params)
            raise SuggestionError(f"{name}: is missing in the parameters.{hint}")
        self._asked.add(name)
        value = self._params[name]
        if reason := replay_error(name, question, value):
            raise SuggestionError(reason)
        return value


def replay_error(name: str, question: Question, value: Any) -> str | None:
    """Return the reason why a recorded value is no answer to a question; None if it is one."""
    if is_answer(question, value):
        return None
    if isinstance(question, ChoiceQuestion):
        offered = ", ".join(repr(choice) for choice in question.choices)
        hint = did_you_mean(str(value), [str(choice) for choice in question.choices])
        return f"{name}: {value!r} is none of {offered}.{hint}"
    expected = "an integer" if isinstance(question, IntQuestion) else "a number"
    return f"{name}: {value!r} is not {expected} {describe_range(question)}"


def describe_range(question: IntQuestion | FloatQuestion) -> str:
    """Return the range of a number in words, such as `from 16 to 64 in steps of 16`."""
    stepping = "" if question.step in (None, 1) else f" in steps of {question.step}"
    return f"from {question.low} to {question.high}{stepping}"
