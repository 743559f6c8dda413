"""A preference picks one trial of the front afterwards; what cannot be weighed is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.objective import (
    Objective,
    PreferenceError,
    dominates,
    parse_preference,
    preference_distances,
)

OBJECTIVES = (
    Objective(metric="val_accuracy", direction="maximize"),
    Objective(metric="val_mae", direction="minimize"),
)


def test_weights_are_shares_and_those_left_out_are_zero() -> None:
    weights = parse_preference("val_mae=3, val_accuracy=1", OBJECTIVES)
    assert weights == {"val_accuracy": 0.25, "val_mae": 0.75}
    assert parse_preference("val_mae=2", OBJECTIVES) == {"val_accuracy": 0.0, "val_mae": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "val_acuracy=1",
            "not an objective of this study. Objectives: val_accuracy, val_mae. Did you",
        ),
        ("val_mae=-1", "the weight of val_mae is a number from 0, not '-1'"),
        ("val_mae=nan", "a number from 0, not 'nan'"),
        ("val_mae=inf", "a number from 0, not 'inf'"),
        ("val_mae=much", "a number from 0, not 'much'"),
        ("val_mae=0,val_accuracy=0", "no weight is above 0; write val_accuracy=0.5,val_mae=0.5"),
        ("val_mae=1,val_mae=2", "'val_mae' is weighed twice"),
        ("val_mae", "'val_mae' is not a weight; write val_accuracy=0.5,val_mae=0.5"),
        ("", "'' is not a weight"),
    ],
)
def test_what_cannot_be_weighed_is_refused(text: str, message: str) -> None:
    with pytest.raises(PreferenceError) as refused:
        parse_preference(text, OBJECTIVES)
    assert message in str(refused.value)


def test_one_objective_leaves_nothing_to_prefer() -> None:
    with pytest.raises(PreferenceError, match="this study has one, val_mae: leave it out"):
        parse_preference("val_mae=1", OBJECTIVES[1:])


def test_a_hollow_of_the_front_is_chosen_by_some_weights() -> None:
    # The middle is above the line between the ends: no weighted sum would choose it.
    results = [(1.0, 10.0), (0.4, 6.5), (0.0, 0.0)]
    weights = parse_preference("val_accuracy=1,val_mae=1", OBJECTIVES)
    far = preference_distances(results, OBJECTIVES, weights)
    assert far.index(min(far)) == 1
    for text, place in (("val_accuracy=9,val_mae=1", 0), ("val_accuracy=1,val_mae=9", 2)):
        far = preference_distances(results, OBJECTIVES, parse_preference(text, OBJECTIVES))
        assert far.index(min(far)) == place


@given(
    results=st.lists(
        st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)), min_size=1
    ),
    share=st.floats(0.01, 0.99),
)
def test_nobody_better_in_every_objective_is_passed_over(
    results: list[tuple[float, float]], share: float
) -> None:
    weights = {"val_accuracy": share, "val_mae": 1 - share}
    far = preference_distances(results, OBJECTIVES, weights)
    best = results[far.index(min(far))]
    assert not any(dominates(other, best, OBJECTIVES) for other in results)
