"""Encoding: the feature vector of a candidate's decisions, absent ones included.

A choice is one-hot. A number takes one feature, its position in the range plus an offset, so that
an absent decision (0) differs from the lowest value. Features are found by running the space: a
decision that is asked for the first time adds its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from orchestrator.sampling.scales import aligned
from search_spaces.domains.suggester import ChoiceQuestion, Question

_PRESENT = 0.5
"""Feature of a number at its lowest value."""

SparseRow = tuple[NDArray[np.intp], NDArray[np.float64]]
"""Indices and values of the features that are not 0."""


@dataclass(frozen=True, slots=True)
class _Feature:
    """Features of one decision: one of several, or the position of a number."""

    first: int
    choices: Mapping[tuple[type, Any], int] | None
    scale: Callable[[float], float] = float
    low: float = 0.0
    per_unit: float = 0.0

    @classmethod
    def of(cls, question: Question, first: int) -> Self:
        if isinstance(question, ChoiceQuestion):
            return cls(first, {(type(c), c): i for i, c in enumerate(question.choices)})
        scale = math.log if question.log else float
        low, high = scale(question.low), scale(question.high)
        return cls(first, None, scale, low, 1 / (high - low) if low < high else 0.0)

    def encode(self, value: Any) -> tuple[int, float]:
        """Return index and value of the feature that is not 0."""
        if self.choices is not None:
            return self.first + self.choices[type(value), value], 1.0
        return self.first, _PRESENT + (self.scale(value) - self.low) * self.per_unit


_UNKNOWN = None, _Feature(0, None)


@dataclass(slots=True)
class Encoder:
    """Features of the decisions seen so far.

    Decisions of one name with other ranges have other features, as spaces in Python code may ask.
    Equal sequences of candidates give equal features.
    """

    width: int = 0
    """Number of features."""
    _features: dict[tuple[str, Question], _Feature] = field(default_factory=dict)
    _last: dict[str, tuple[Question | None, _Feature]] = field(default_factory=dict)
    """Last question of each name with its feature: nearly always the next one, too."""

    def copy(self) -> Self:
        """Return an encoder that adds features of its own."""
        return type(self)(self.width, dict(self._features), dict(self._last))

    def encode(self, params: Mapping[str, Any], questions: Mapping[str, Question]) -> SparseRow:
        """Return the features of a candidate, after adding those of decisions not seen before.

        Args:
            params: Decisions by name.
            questions: Question of each decision.
        """
        pairs = []
        for name, value in params.items():
            question = questions[name]
            asked, feature = self._last.get(name, _UNKNOWN)
            if asked is not question and asked != question:
                feature = self._features.get((name, question)) or self._add(name, question)
                self._last[name] = question, feature
            pairs.append(feature.encode(value))
        indices, values = zip(*pairs, strict=True) if pairs else ((), ())
        return np.array(indices, dtype=np.intp), np.array(values, dtype=float)

    def _add(self, name: str, question: Question) -> _Feature:
        """Add a decision; ranges that end on the same value of their grid share a feature."""
        stored = aligned(question)
        if (name, stored) not in self._features:
            self._features[name, stored] = _Feature.of(stored, self.width)
            self.width += len(question.choices) if isinstance(question, ChoiceQuestion) else 1
        self._features[name, question] = self._features[name, stored]
        return self._features[name, question]


def dense(rows: Sequence[SparseRow], width: int) -> NDArray[np.float64]:
    """Return rows as a matrix."""
    matrix = np.zeros((len(rows), width))
    if rows:
        indices, values = (np.concatenate(each) for each in zip(*rows, strict=True))
        matrix[np.repeat(np.arange(len(rows)), [len(row[0]) for row in rows]), indices] = values
    return matrix
