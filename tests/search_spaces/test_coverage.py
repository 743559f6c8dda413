"""Each-choice samples cover every option, and are few."""

import pytest

from search_spaces.catalog import NAMES, load
from search_spaces.domains import Const, Domain, FloatRange, OneOf, choice
from search_spaces.domains.coverage import MAX_SAMPLES, MIN_SAMPLES, each_choice
from search_spaces.domains.suggester import Suggester


def test_each_choice_and_each_end_of_a_range_is_covered() -> None:
    wide = choice(*range(500))
    assert set(each_choice(lambda s: wide.resolve(s, "wide"))) == set(range(500))
    sampled = set(each_choice(lambda s: FloatRange(0.0, 1.0).resolve(s, "share")))
    assert {0.0, 1.0} <= sampled


def test_options_behind_rare_answers_are_covered() -> None:
    nested: Domain[int] = Const(0)
    for depth in range(1, 31):
        nested = OneOf({"here": Const(depth), "beyond": nested})
    assert set(each_choice(lambda s: nested.resolve(s, "nested"))) == set(range(31))


def test_sampling_ends_at_the_limit_and_with_full_coverage() -> None:
    wide = choice(*range(500))
    assert len(list(each_choice(lambda s: wide.resolve(s, "wide"), max_samples=100))) == 100
    assert len(list(each_choice(lambda s: choice(1, 2).resolve(s, "few")))) == MIN_SAMPLES


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_space_is_covered_long_before_the_limit(name: str) -> None:
    space = load(name)
    asked = 0

    def resolve(suggester: Suggester) -> None:
        nonlocal asked
        asked += 1
        space.resolve(suggester)

    list(each_choice(resolve))
    assert asked < MAX_SAMPLES / 2
