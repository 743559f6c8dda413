"""Kernels on conditional spaces: samples around known decisions, and densities of them."""

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from benchmarks.search.tables.space import Params, TableSpace
from benchmarks.search.tables.table import Numbers
from search_spaces.domains.suggester import (
    BaseSuggester,
    ChoiceQuestion,
    IntQuestion,
    Question,
    grid_point,
    sample,
)


def to_unit(question: Question, value: Any) -> float:
    """Return a number on the scale of its range from 0 to 1, or the index of a choice."""
    if isinstance(question, ChoiceQuestion):
        return float(question.choices.index(value))
    scale = math.log if question.log else float
    low, high = scale(question.low), scale(question.high)
    return (scale(value) - low) / (high - low)


def from_unit(question: Any, unit: float) -> Any:
    """Return the nearest answer to a place in a number's range."""
    if question.log:
        low, high = math.log(question.low), math.log(question.high)
        value = min(max(math.exp(low + unit * (high - low)), question.low), question.high)
        return round(value) if isinstance(question, IntQuestion) else value
    value = question.low + unit * (question.high - question.low)
    if question.step is None:
        return value
    steps = round((value - question.low) / question.step)
    if isinstance(question, IntQuestion):
        return question.low + steps * question.step
    return grid_point(question.low, question.step, steps)


class KernelSuggester(BaseSuggester):
    """Samples each decision from a kernel around a center; uniformly what the center lacks."""

    def __init__(
        self,
        center: Params,
        rng: random.Random,
        *,
        widths: Mapping[str, float],
        odds: Mapping[str, float],
    ) -> None:
        """Prepare the answers.

        Args:
            center: Known decisions.
            rng: Random numbers.
            widths: Standard deviation of numbers relative to their range, by name; 0 if missing.
            odds: Odds of the known choice against each other one, by name; infinite if missing.
        """
        self.params: dict[str, Any] = {}
        self._center = center
        self._rng = rng
        self._widths = widths
        self._odds = odds

    def answer(self, name: str, question: Question) -> Any:
        """Return the sample."""
        if name not in self._center:
            value = sample(question, self._rng)
        elif isinstance(question, ChoiceQuestion):
            value = self._choose(question, self._center[name], self._odds.get(name, math.inf))
        elif width := self._widths.get(name, 0.0):
            at = to_unit(question, self._center[name])
            while not 0 <= (unit := self._rng.gauss(at, width)) <= 1:
                pass
            value = from_unit(question, unit)
        else:
            value = self._center[name]
        self.params[name] = value
        return value

    def _choose(self, question: ChoiceQuestion, known: Any, odds: float) -> Any:
        others = [choice for choice in question.choices if choice != known]
        if not others or self._rng.random() < 1 - len(others) / (odds + len(others)):
            return known
        return self._rng.choice(others)


class QuestionLog(BaseSuggester):
    """Collects the questions of candidates, to encode them as vectors."""

    def __init__(self) -> None:
        self.questions: dict[str, Question] = {}
        """All questions so far, by name."""
        self._params: Params = {}

    def add(self, space: TableSpace, params: Params) -> None:
        """Collect the questions that lead to these decisions."""
        self._params = params
        space.domain.resolve(self, "")

    def answer(self, name: str, question: Question) -> Any:
        """Return the known answer."""
        self.questions.setdefault(name, question)
        return self._params[name]

    def encode(self, points: Iterable[Params]) -> Numbers:
        """Return one row a candidate and one column a question; missing decisions are NaN."""
        return np.array(
            [
                [
                    to_unit(question, params[name]) if name in params else np.nan
                    for name, question in self.questions.items()
                ]
                for params in points
            ]
        )

    def choices(self) -> Numbers:
        """Return the number of choices of each question; 0 for numbers."""
        return np.array(
            [
                len(q.choices) if isinstance(q, ChoiceQuestion) else 0
                for q in self.questions.values()
            ],
            dtype=float,
        )


class KernelDensity:
    """Product kernels with one bandwidth a decision, by the normal reference rule as in BOHB."""

    def __init__(self, points: Numbers, choices: Numbers, *, least: float = 1e-3) -> None:
        """Estimate.

        Args:
            points: One row an observation, without NaN.
            choices: Number of choices of each column; 0 for numbers.
            least: Smallest bandwidth.
        """
        self._points = points
        self._choices = choices
        count, width = points.shape
        spread = points.std(axis=0) * 1.06 * count ** (-1 / (4 + width))
        most = np.where(choices > 0, (choices - 1) / np.maximum(choices, 1), np.inf)
        self.bandwidths: Numbers = np.minimum(np.maximum(spread, least), most)

    def log_density(self, queries: Numbers) -> Numbers:
        """Return the logarithm of the density at each row."""
        difference = queries[:, None, :] - self._points[None, :, :]
        width, choices = self.bandwidths, np.maximum(self._choices, 2)
        gauss = -0.5 * (difference / width) ** 2 - np.log(width)
        same = np.log1p(-np.minimum(width, 1 - 1e-9))
        other = np.log(width / (choices - 1))
        kernel = np.where(self._choices > 0, np.where(difference == 0, same, other), gauss)
        logs = kernel.sum(axis=2)
        peak = logs.max(axis=1, keepdims=True)
        return np.asarray(peak[:, 0] + np.log(np.exp(logs - peak).mean(axis=1)))
