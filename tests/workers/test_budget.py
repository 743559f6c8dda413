"""Rungs rise and end at the budget's maximum."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.budget import Budget


@given(minimum=st.integers(1, 50), beyond=st.integers(0, 500), reduction_factor=st.integers(2, 9))
def test_rungs_rise_by_the_reduction_factor_and_end_at_the_maximum(
    minimum: int, beyond: int, reduction_factor: int
) -> None:
    budget = Budget(minimum=minimum, maximum=minimum + beyond, reduction_factor=reduction_factor)
    rungs = budget.rungs()
    assert rungs[0] == (minimum if beyond else budget.maximum)
    assert rungs[-1] == budget.maximum
    assert list(rungs) == sorted(set(rungs))
    assert all(b == a * reduction_factor for a, b in pairwise(rungs[:-1]))


@pytest.mark.parametrize(
    ("minimum", "maximum", "rungs"),
    [(1, 9, (1, 3, 9)), (1, 10, (1, 3, 9, 10)), (5, 5, (5,)), (2, 27, (2, 6, 18, 27))],
)
def test_these_budgets_have_these_rungs(minimum: int, maximum: int, rungs: tuple[int]) -> None:
    assert Budget(minimum=minimum, maximum=maximum).rungs() == rungs


@given(maximum=st.integers(1, 500), reduction_factor=st.integers(2, 9))
def test_auto_starts_between_a_ninth_and_a_third_of_the_budget(
    maximum: int, reduction_factor: int
) -> None:
    budget = Budget(maximum=maximum, reduction_factor=reduction_factor)
    assert budget.minimum == "auto"
    earliest, latest = budget.earliest_first_rung, budget.latest_first_rung
    assert 1 <= earliest <= latest <= max(1, maximum)
    for first in range(earliest, latest + 1):
        rungs = budget.rungs(first)
        assert rungs[-1] == maximum
        assert list(rungs) == sorted(set(rungs))
        assert all(rung <= 3 / 4 * maximum for rung in rungs[:-1])
        assert set(rungs) <= set(budget.possible_rungs())


@pytest.mark.parametrize(
    ("maximum", "possible"), [(9, (1, 2, 3, 6, 9)), (10, (1, 2, 3, 6, 10)), (1, (1,)), (3, (1, 3))]
)
def test_these_rungs_are_possible_with_auto(maximum: int, possible: tuple[int]) -> None:
    assert Budget(maximum=maximum).possible_rungs() == possible


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minimum": 0}, "greater than or equal to 1"),
        ({"minimum": 10}, "minimum 10 is above maximum 9"),
        ({"minimum": "late"}, "should be 'auto'"),
        ({"reduction_factor": 1}, "greater than or equal to 2"),
        ({"unit": "step"}, "should be 'epoch'"),
    ],
)
def test_budgets_without_rungs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**{"maximum": 9, **changes})
