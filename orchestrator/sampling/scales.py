"""Scales of decisions: the position of a value within its question, and values near another."""

import math
import random
from dataclasses import replace
from typing import Any

from search_spaces.domains.suggester import (
    ChoiceQuestion,
    FloatQuestion,
    IntQuestion,
    Question,
    grid_point,
    sample,
)

_SMALL_GRID = 50
"""Number of values up to which a number moves by grid steps, not by a share of its range."""
_STEP_PROBABILITY = 0.6
"""Probability that a grid step ends after one value, after two, ... (geometric)."""
WIDTHS = (0.03, 0.4)
"""Standard deviation of a move within a range, relative to it; sampled uniformly in the log."""
_TRIES = 20

Number = IntQuestion | FloatQuestion


def position(question: Number, value: float) -> float:
    """Return the position of a value between `low`, 0, and `high`, 1, on the question's scale."""
    low, high = _ends(question)
    return 0.5 if low == high else (_scaled(question, value) - low) / (high - low)


def value_at(question: Number, position: float) -> float:
    """Return the value nearest to a position, which is clipped to [0, 1]."""
    low, high = _ends(question)
    scaled = low + min(max(position, 0.0), 1.0) * (high - low)
    value = math.exp(scaled) if question.log else scaled
    if question.step is not None:
        steps = min(max(round((value - question.low) / question.step), 0), _last_step(question))
        if isinstance(question, IntQuestion):
            return question.low + steps * question.step
        value = grid_point(question.low, question.step, steps)
    return min(max(value, question.low), question.high)


def num_answers(question: Question) -> float:
    """Return the number of answers to a question; infinite for a continuous one."""
    if isinstance(question, ChoiceQuestion):
        return len(question.choices)
    if question.step is None:
        return math.inf if question.low < question.high else 1
    return _last_step(question) + 1


def aligned(question: Question) -> Question:
    """Return the question with the last value of its grid as its end, as Optuna records it."""
    if isinstance(question, ChoiceQuestion) or question.step is None:
        return question
    last: Any = value_at(question, 1.0)
    return question if last == question.high else replace(question, high=last)


def neighbor(
    question: Question, value: Any, rng: random.Random, widths: tuple[float, float] = WIDTHS
) -> Any:
    """Return another answer near a known one; of choices, any other one.

    Args:
        question: The question.
        value: The known answer.
        rng: Source of the answer.
        widths: Range of the standard deviation of a move, relative to that of the answers.
    """
    if num_answers(question) == 1:
        return value
    if isinstance(question, ChoiceQuestion):
        return rng.choice([c for c in question.choices if not _same(c, value)])
    if num_answers(question) <= _SMALL_GRID:
        return _grid_neighbor(question, value, rng)
    start, width = position(question, value), math.exp(rng.uniform(*map(math.log, widths)))
    for _ in range(_TRIES):
        near = rng.gauss(start, width)
        if 0 <= near <= 1 and (other := value_at(question, near)) != value:
            return other
    while _same(other := sample(question, rng), value):
        pass
    return other


def _grid_neighbor(question: Number, value: float, rng: random.Random) -> float:
    """Return a value some grid steps away; a step across an end is taken in the other direction."""
    step, last = question.step or 1, _last_step(question)
    index = round((value - question.low) / step)
    jump = 1
    while rng.random() >= _STEP_PROBABILITY:
        jump += 1
    directed = index + rng.choice((-jump, jump))
    if not 0 <= directed <= last:
        directed = min(max(2 * index - directed, 0), last)
    if directed == index:
        directed = index + (1 if index < last else -1)
    if isinstance(question, IntQuestion):
        return question.low + directed * step
    return min(grid_point(question.low, step, directed), question.high)


def _last_step(question: Number) -> int:
    return math.floor((question.high - question.low) / (question.step or 1) + 1e-8)


def _ends(question: Number) -> tuple[float, float]:
    return _scaled(question, question.low), _scaled(question, question.high)


def _scaled(question: Number, value: float) -> float:
    return math.log(value) if question.log else float(value)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
