"""Positions on a decision's scale, and answers near another."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sampling.scales import aligned, neighbor, num_answers, position, value_at
from search_spaces.domains.suggester import (
    ChoiceQuestion,
    FloatQuestion,
    IntQuestion,
    Question,
    is_answer,
    sample,
)


@st.composite
def questions(draw: Any) -> Question:
    kind = draw(st.sampled_from(["choice", "int", "float", "grid"]))
    if kind == "choice":
        return ChoiceQuestion(draw(st.sampled_from([("a", "b", "c"), (1, 2.5, True), ("only",)])))
    low, span, log = draw(st.integers(1, 50)), draw(st.integers(0, 400)), draw(st.booleans())
    if kind == "int":
        step = 1 if log else draw(st.integers(1, 7))
        return IntQuestion(low, low + span, step, log)
    if kind == "float":
        return FloatQuestion(low / 10, (low + span) / 10, None, log)
    return FloatQuestion(0.1, round(0.1 + 0.05 * draw(st.integers(0, 80)), 2), 0.05)


@given(questions(), st.integers(0, 2**32), st.sampled_from([(0.03, 0.4), (0.001, 0.002)]))
def test_a_neighbor_is_another_answer(
    question: Question, seed: int, widths: tuple[float, float]
) -> None:
    rng = random.Random(seed)
    value = sample(question, rng)
    other = neighbor(question, value, rng, widths)
    assert is_answer(question, other)
    assert num_answers(question) == 1 or (type(other), other) != (type(value), value)


@given(questions().filter(lambda q: not isinstance(q, ChoiceQuestion)), st.integers(0, 2**32))
def test_a_value_is_at_its_position(question: Any, seed: int) -> None:
    value = sample(question, random.Random(seed))
    place = position(question, value)
    assert -1e-9 <= place <= 1 + 1e-9
    assert value_at(question, place) == pytest.approx(value)


def test_positions_follow_the_scale() -> None:
    assert position(FloatQuestion(1e-4, 1.0, None, True), 1e-2) == pytest.approx(0.5)
    assert position(IntQuestion(0, 8), 2) == 0.25


def test_continuous_neighbors_are_nearer_with_a_smaller_width() -> None:
    question, rng = FloatQuestion(0.0, 1.0), random.Random(0)
    near, far = (
        sum(abs(neighbor(question, 0.5, rng, widths) - 0.5) for _ in range(200))
        for widths in ((0.02, 0.03), (0.2, 0.3))
    )
    assert near < far / 4


def test_a_range_ends_on_its_grid() -> None:
    assert aligned(IntQuestion(1, 10, 4)) == IntQuestion(1, 9, 4)
    assert aligned(IntQuestion(1, 9, 4)) == IntQuestion(1, 9, 4)
    assert aligned(FloatQuestion(0.0, 1.0)) == FloatQuestion(0.0, 1.0)
