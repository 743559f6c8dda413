"""Random and replaying suggesters behave like an Optuna trial."""

import math
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.domains.suggester import (
    RandomSuggester,
    ReplaySuggester,
    Suggester,
    SuggestionError,
)


def ask_everything(suggester: Suggester) -> dict[str, Any]:
    return {
        "int": suggester.suggest_int("int", -3, 9, step=3),
        "int_log": suggester.suggest_int("int_log", 1, 500, log=True),
        "float": suggester.suggest_float("float", -1.0, 1.0),
        "float_log": suggester.suggest_float("float_log", 1e-6, 1e6, log=True),
        "float_step": suggester.suggest_float("float_step", 0.1, 0.7, step=0.1),
        "categorical": suggester.suggest_categorical("categorical", [None, True, 1.5, "x"]),
    }


@settings(deadline=None)
@given(seed=st.integers(0, 2**63))
def test_chance_stays_in_range_and_repeats_itself(seed: int) -> None:
    chance = RandomSuggester(seed)
    sampled = ask_everything(chance)
    assert sampled["int"] in {-3, 0, 3, 6, 9}
    assert 1 <= sampled["int_log"] <= 500
    assert -1 <= sampled["float"] <= 1
    assert 1e-6 <= sampled["float_log"] <= 1e6
    assert sampled["float_step"] in {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}
    assert ask_everything(chance) == sampled == chance.params
    assert ask_everything(RandomSuggester(seed)) == sampled


def test_chance_reaches_both_ends_and_spreads_logarithms_evenly() -> None:
    samples = [ask_everything(RandomSuggester(seed)) for seed in range(600)]
    assert {draw["int"] for draw in samples} == {-3, 0, 3, 6, 9}
    assert {draw["float_step"] for draw in samples} >= {0.1, 0.7}
    assert 0.4 < sum(draw["float_log"] < 1 for draw in samples) / 600 < 0.6
    assert 0.35 < sum(draw["int_log"] < math.sqrt(500) for draw in samples) / 600 < 0.65


def test_one_name_asked_in_two_ways_is_refused() -> None:
    chance = RandomSuggester(0)
    chance.suggest_int("width", 1, 4)
    with pytest.raises(SuggestionError, match=r"width: asked as .* one name must have one domain"):
        chance.suggest_int("width", 1, 8)


def test_a_record_of_optunas_answers_replays() -> None:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    sampled = ask_everything(trial)
    replay = ReplaySuggester({**trial.params, "extra": 1})
    assert ask_everything(replay) == sampled
    assert replay.unused() == ("extra",)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"int": 1}, "int: 1 is not an integer from -3 to 9 in steps of 3"),
        ({"int": 12}, "int: 12 is not an integer"),
        ({"int": 3.0}, "int: 3.0 is not an integer"),
        ({"int": 3}, "int_log: is missing in the parameters. Did you mean 'int'"),
        ({"int": 3, "int_log": 5, "float": "0.5"}, "float: '0.5' is not a number from -1.0 to 1.0"),
        ({"int": 3, "int_log": 5, "float": math.nan}, "float: nan is not a number"),
        (
            {"int": 3, "int_log": 5, "float": 1, "float_log": 1.0, "float_step": 0.25},
            "float_step: 0.25 is not a number from 0.1 to 0.7 in steps of 0.1",
        ),
        (
            {"int": 3, "int_log": 5, "float": 1, "float_log": 1.0, "float_step": 0.3}
            | {"categorical": 1},
            "categorical: 1 is none of None, True, 1.5, 'x'",
        ),
    ],
)
def test_a_record_that_does_not_answer_is_refused(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(SuggestionError) as caught:
        ask_everything(ReplaySuggester(params))
    assert reason in str(caught.value)
