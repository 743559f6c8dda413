"""Priors are listed under the names of their decisions, and samples stay in the domain."""

import statistics
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.catalog import catalog, load
from search_spaces.domains import (
    Const,
    FloatRange,
    Inline,
    IntRange,
    OneOf,
    Record,
    Repeat,
    Shared,
    SpaceError,
    choice,
)
from search_spaces.domains.priors import likely_first, priors, sample_prior
from search_spaces.domains.suggester import RandomSuggester

NUMBERS = [
    IntRange(2, 11, step=3, prior=8),
    IntRange(1, 1000, log=True, prior=30),
    FloatRange(1e-4, 1.0, log=True, prior=1e-2),
    FloatRange(0.1, 0.9, step=0.1, prior=0.3),
    FloatRange(-1.0, 1.0, prior=1.0),
    choice("a", "b", 3, prior="b"),
]


@given(st.sampled_from(NUMBERS), st.integers(0, 2**32))
def test_a_sample_of_a_prior_is_in_its_domain(domain: Any, seed: int) -> None:
    assert sample_prior(domain, Random(seed)) in domain


@pytest.mark.parametrize("log", [False, True])
def test_samples_concentrate_around_the_prior_on_the_scale_of_the_domain(log: bool) -> None:
    prior = 1e-2 if log else 0.5
    spread = {}
    for confidence in ("low", "medium", "high"):
        domain = FloatRange(1e-4, 1.0, log=log, prior=prior, confidence=confidence)
        sampled = [sample_prior(domain, Random(seed)) for seed in range(500)]
        assert statistics.median(sampled) == pytest.approx(prior, rel=0.3)
        low, high = sorted(sampled)[50], sorted(sampled)[449]
        spread[confidence] = high / low if log else high - low
    assert spread["high"] < spread["medium"] < spread["low"]


def test_the_expected_choice_is_likelier_and_the_others_stay_possible() -> None:
    domain = choice("a", "b", "c", prior="b", confidence="medium")
    sampled = [sample_prior(domain, Random(seed)) for seed in range(600)]
    assert sampled.count("b") == pytest.approx(400, abs=50)
    assert sampled.count("a") > 50 < sampled.count("c")


def test_every_prior_is_found_under_the_name_that_is_asked() -> None:
    rate = Shared("rate", FloatRange(0.0, 1.0, prior=0.5))
    block = OneOf(
        {"wide": Record(dict, {"width": IntRange(1, 9, prior=3), "rate": rate}), "flat": Const(0)},
        prior="flat",
    )
    item = Record(dict, {"block": Inline(block), "depth": IntRange(1, 4)})
    found = dict(priors(Repeat(item, 1, 2, prior=2), "items"))
    beneath = {f"items.{index}{name}" for index in (0, 1) for name in ("", ".wide.width")}
    assert set(found) == {"items.count", "rate", *beneath}
    assert found["items.count"].prior == 2


@pytest.mark.parametrize("name", catalog())
def test_priors_of_ready_spaces_belong_to_decisions_that_are_asked(name: str) -> None:
    space = load(name)
    missing = set(space.expected())
    assert {"recipe.learning_rate", "recipe.optimizer"} & missing
    for seed in range(3000):
        suggester = RandomSuggester(seed)
        space.resolve(suggester)
        missing -= set(suggester.params)
        if not missing:
            break
    assert not missing


@pytest.mark.parametrize("name", catalog())
def test_a_ready_space_expects_every_part_of_its_default_network(name: str) -> None:
    space = load(name)
    expected = space.expected()
    network = {k: v for k, v in space.default_params().items() if k.startswith("architecture")}
    assert {key: expected[key].prior for key in network} == network


def test_items_are_expected_to_be_like_those_of_the_initial_value_in_their_place() -> None:
    kind = OneOf({"plain": Const(0), "deep": IntRange(1, 9, prior=2)}, prior="plain")
    items = Repeat(Record(dict, {"kind": kind}), 1, 4, initial=({"kind": 0}, {"kind": 7}), prior=2)
    found = {name: domain.prior for name, domain in priors(items, "items")}
    assert [found[f"items.{index}.kind"] for index in range(4)] == ["plain", "deep", "deep", "deep"]
    assert [found[f"items.{index}.kind.deep"] for index in range(4)] == [2, 7, 7, 7]
    assert found["items.count"] == 2


def test_the_first_of_several_likely_values_is_the_default_and_the_expectation() -> None:
    domain = likely_first(3, 5, 7)
    assert (domain.default(), domain.prior, domain.confidence) == (3, 3, "low")


def test_the_default_is_the_prior_where_nothing_else_is_declared() -> None:
    assert IntRange(1, 9, prior=4).default() == 4
    assert IntRange(1, 9, prior=4, initial=2).default() == 2
    assert FloatRange(0.0, 1.0, prior=0.5).default() == 0.5
    assert choice("a", "b", prior="b").default() == "b"
    assert Repeat(IntRange(1, 3), 1, 4, prior=2).default() == (1, 1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: IntRange(1, 9, prior=10), "prior 10 is outside"),
        (lambda: FloatRange(0.0, 1.0, step=0.1, prior=0.15), "prior 0.15 is outside"),
        (lambda: choice("a", "b", prior="c"), "no branch 'c'"),
        (lambda: Repeat(Const(0), 1, 3, prior=4), "prior 4 is outside"),
        (lambda: IntRange(1, 9, prior=3, confidence="sure"), "none of low, medium, high"),
        (lambda: choice("a", "b", prior="a", confidence="sure"), "none of low, medium, high"),
    ],
)
def test_an_expectation_that_cannot_be_met_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(SpaceError, match=reason):
        make()
