"""The domain algebra: laws L1 and L2 on random nested domains, sizes by counting, and errors."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.domains import (
    Const,
    Domain,
    DomainError,
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
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester

patient = settings(deadline=None)  # a machine under load is no failure
SHARED = {"s.kind": choice("u", "v"), "s.count": IntRange(0, 2)}


@st.composite
def int_ranges(draw: st.DrawFn) -> Domain[Any]:
    if draw(st.booleans()):
        low = draw(st.integers(1, 50))
        return IntRange(low, low + draw(st.integers(0, 2000)), log=True)
    low, step = draw(st.integers(-20, 20)), draw(st.integers(1, 7))
    return IntRange(low, low + step * draw(st.integers(0, 6)), step=step)


@st.composite
def grids(draw: st.DrawFn) -> Domain[Any]:
    step, low, steps = draw(st.tuples(st.integers(1, 30), st.integers(-50, 50), st.integers(0, 30)))
    scale = draw(st.sampled_from([1, 10, 100]))
    return FloatRange(low / scale, (low + step * steps) / scale, step=step / scale)


@st.composite
def float_ranges(draw: st.DrawFn) -> Domain[Any]:
    log = draw(st.booleans())
    low = draw(st.floats(1e-6 if log else -1e3, 1e3))
    return FloatRange(low, low + draw(st.floats(0, 1e3)), log=log)


discrete_leaves = st.one_of(
    st.builds(lambda low, width: IntRange(low, low + width), st.integers(-3, 3), st.integers(0, 2)),
    st.just(FloatRange(0.1, 0.3, step=0.1)),
    st.builds(Const, st.sampled_from([None, "fixed", 1, 1.0, True])),
    st.just(choice("a", 1, None)),
    st.sampled_from([Shared(name, domain) for name, domain in SHARED.items()]),
)


def composed(inner: st.SearchStrategy[Domain[Any]]) -> st.SearchStrategy[Domain[Any]]:
    return st.one_of(
        st.dictionaries(st.sampled_from(["left", "right", "top"]), inner, max_size=3).map(
            lambda fields: Record(dict, fields)
        ),
        inner.map(lambda domain: Record(dict, {"within": Inline(domain)})),
        st.builds(lambda item, low, more: Repeat(item, low, low + more), inner, _small, _small),
        st.lists(inner, min_size=1, max_size=3).map(_one_of),
    )


def _one_of(branches: list[Domain[Any]]) -> Domain[Any]:
    # A tag keeps branches apart, as the types of real blocks do.
    return OneOf(
        {
            f"branch{tag}": Record(dict, {"tag": Const(tag), "within": branch})
            for tag, branch in enumerate(branches)
        }
    )


_small = st.integers(0, 2)
leaves = st.one_of(int_ranges(), grids(), float_ranges(), discrete_leaves)
domains = st.recursive(leaves, composed, max_leaves=8)
small_domains = st.recursive(discrete_leaves, composed, max_leaves=4)


@dataclass
class Asked:
    """Answers by chance and keeps what was asked under each name."""

    source: RandomSuggester
    questions: dict[str, tuple[Any, ...]]

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self._ask(name, ("int", low, high, step, log))
        return self.source.suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self._ask(name, ("float", low, high, step, log))
        return self.source.suggest_float(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self._ask(name, ("categorical", *choices))
        return self.source.suggest_categorical(name, choices)

    def _ask(self, name: str, question: tuple[Any, ...]) -> None:
        assert self.questions.setdefault(name, question) == question


@patient
@given(domain=domains, seed=st.integers(0, 2**32))
def test_encode_returns_the_sampled_answers(domain: Domain[Any], seed: int) -> None:
    chance = RandomSuggester(seed)
    value = domain.resolve(chance, "root")
    encoded = domain.encode(value, "root")
    assert encoded == chance.params
    assert [type(answer) for answer in encoded.values()] == [
        type(chance.params[name]) for name in encoded
    ]


@patient
@given(domain=domains, seed=st.integers(0, 2**32))
def test_resolve_gives_the_very_value_that_was_encoded(domain: Domain[Any], seed: int) -> None:
    value = domain.resolve(RandomSuggester(seed), "root")
    replay = ReplaySuggester(domain.encode(value, "root"))
    again = domain.resolve(replay, "root")
    assert repr(again) == repr(value)  # to the last bit, and 1 is not True
    assert replay.unused() == ()


@patient
@given(domain=domains)
def test_the_default_is_in_the_domain_and_round_trips(domain: Domain[Any]) -> None:
    default = domain.default()
    assert default in domain
    assert domain.resolve(ReplaySuggester(domain.encode(default, "root")), "root") == default


@patient
@given(domain=domains, seeds=st.lists(st.integers(0, 2**32), min_size=2, max_size=12))
def test_one_name_has_one_domain_whatever_else_is_decided(
    domain: Domain[Any], seeds: list[int]
) -> None:
    questions: dict[str, tuple[Any, ...]] = {}
    for seed in seeds:
        domain.resolve(Asked(RandomSuggester(seed), questions), "root")


class GridSuggester:
    """Answers so that, over many runs, every combination of answers comes once."""

    def __init__(self, turns: list[int]) -> None:
        self.turns = turns
        self.widths: list[int] = []
        self.params: dict[str, Any] = {}

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return int(self._pick(name, range(low, high + 1, step)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        assert step is not None
        return float(
            self._pick(name, [low + k * step for k in range(round((high - low) / step) + 1)])
        )

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._pick(name, choices)

    def _pick(self, name: str, options: Sequence[Any]) -> Any:
        if name not in self.params:
            if len(self.widths) == len(self.turns):
                self.turns.append(0)
            self.params[name] = options[self.turns[len(self.widths)]]
            self.widths.append(len(options))
        return self.params[name]


def every_value(domain: Domain[Any]) -> Iterator[Any]:
    turns: list[int] = []
    while True:
        odometer = GridSuggester(turns)
        yield domain.resolve(odometer, "root")
        while turns and turns[-1] + 1 == odometer.widths[len(turns) - 1]:
            turns.pop()
        if not turns:
            return
        turns[-1] += 1


@patient
@given(domain=small_domains)
def test_size_is_what_counting_every_value_gives(domain: Domain[Any]) -> None:
    counted = [repr(value) for value in itertools.islice(every_value(domain), 400)]
    assert len(set(counted)) == len(counted)
    if len(counted) < 400:
        assert domain.size() == len(counted)
    else:
        assert domain.size() >= 400


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler, optuna.samplers.TPESampler])
def test_optunas_samples_round_trip_exactly(sampler: type) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    domain = Record(
        dict,
        {
            "grid": FloatRange(0.1, 0.9, step=0.1),
            "fine": FloatRange(0.05, 0.5, step=0.05),
            "log": FloatRange(1e-5, 1.0, log=True),
            "plain": FloatRange(-1.0, 1.0),
            "stepped": IntRange(8, 64, step=8),
            "logarithmic": IntRange(1, 1000, log=True),
            "items": Repeat(choice("a", None, 2, 0.5, True), 0, 3),
            "branch": _one_of([IntRange(0, 3), FloatRange(0.0, 0.3, step=0.1)]),
        },
    )
    study = optuna.create_study(sampler=sampler(seed=3))
    for _ in range(40):
        trial = study.ask()
        value = domain.resolve(trial, "root")
        assert domain.encode(value, "root") == trial.params
        assert domain.resolve(ReplaySuggester(trial.params), "root") == value
        study.tell(trial, trial.params["root.plain"])


def test_names_are_zero_based_paths_that_carry_the_chosen_label() -> None:
    attention = Record(dict, {"heads": IntRange(1, 4)})
    domain = Record(
        dict, {"stages": Repeat(OneOf({"attention": attention, "none": Const(0)}), 1, 2)}
    )
    assert domain.encode({"stages": ({"heads": 2}, 0)}, "stream") == {
        "stream.stages.count": 2,
        "stream.stages.0": "attention",
        "stream.stages.0.attention.heads": 2,
        "stream.stages.1": "none",
    }


def test_nothing_is_asked_where_there_is_no_choice() -> None:
    domain = Record(
        dict,
        {
            "only": OneOf({"one": IntRange(3, 3)}),
            "twice": Repeat(FloatRange(0.5, 0.5), 2, 2),
            "sure": Const("x"),
        },
    )
    value = domain.resolve(ReplaySuggester({}), "")
    assert value == {"only": 3, "twice": (0.5, 0.5), "sure": "x"}
    assert domain.encode(value, "") == {}
    assert domain.size() == 1


def test_a_shared_decision_is_asked_once_and_read_in_every_place() -> None:
    width = Shared("width", choice(16, 32))
    domain = Record(dict, {"left": width, "right": Repeat(width, 2, 2)})
    assert domain.resolve(ReplaySuggester({"width": 32}), "net") == {"left": 32, "right": (32, 32)}
    assert domain.size() == 2


def test_a_value_whose_places_disagree_on_a_shared_decision_is_refused() -> None:
    width = Shared("width", choice(16, 32))
    domain = Record(dict, {"left": width, "right": width})
    with pytest.raises(DomainError, match="width: read in several places as 16 and as 32"):
        domain.encode({"left": 16, "right": 32}, "net")
    assert {"left": 16, "right": 32} not in domain


def test_a_shared_decision_that_only_some_branches_read_counts_only_there() -> None:
    width = Shared("width", IntRange(1, 3))
    reads = Record(dict, {"one": width, "other": width})
    assert OneOf({"reads": reads, "not": choice("a", "b")}).size() == 3 + 2


def test_sizes_stay_exact_when_they_are_large_and_infinite_when_continuous() -> None:
    many = Repeat(IntRange(0, 9), 400, 400)
    assert many.size() == 10**400
    assert Record(dict, {"many": many, "any": FloatRange(0.0, 1.0)}).size() == math.inf
    assert OneOf({"any": FloatRange(0.0, 1.0), "many": many}).size() == math.inf


@pytest.mark.parametrize(
    ("domain", "outside"),
    [
        (IntRange(1, 9, step=2), [0, 2, 11, 3.0, True, "3", None]),
        (FloatRange(0.1, 0.5, step=0.1), [0.15, 0.6, 0.0, 1, math.nan, "0.1"]),
        (FloatRange(0.0, 1.0), [-1e-9, 1.0000001, 1, math.inf, math.nan]),
        (Const(1), [1.0, True, 2]),
        (choice("a", 1), ["b", 1.0, True]),
        (Repeat(IntRange(0, 1), 1, 2), [(), (0, 0, 0), [0], (2,), 0]),
        (Record(dict, {"a": IntRange(0, 1)}), [{}, {"a": 2}, {"a": 1, "b": 1}, 3]),
    ],
)
def test_values_outside_are_distinguished_from_those_inside(
    domain: Domain[Any], outside: list[Any]
) -> None:
    assert domain.default() in domain
    assert [value for value in outside if value in domain] == []


@dataclass(frozen=True)
class Pair:
    left: int
    right: int = 0


def test_an_undecided_field_must_have_the_value_that_the_record_makes() -> None:
    domain = Record(Pair, {"left": IntRange(0, 3)})
    assert Pair(2) in domain
    assert Pair(2, 1) not in domain
    assert {"left": 2} not in domain


def test_a_record_may_be_split_into_fields_by_a_function() -> None:
    domain = Record(
        lambda both: Pair(*both),
        {"both": Repeat(IntRange(0, 3), 2, 2)},
        take=lambda pair: {"both": (pair.left, pair.right)},
    )
    assert domain.encode(Pair(1, 2), "p") == {"p.both.0": 1, "p.both.1": 2}
    with pytest.raises(DomainError, match="cannot be split into fields"):
        domain.encode("no pair", "p")


def test_an_error_says_where_what_and_what_is_allowed() -> None:
    domain = Record(
        dict, {"stages": Repeat(Record(dict, {"width": IntRange(8, 64, step=8)}), 1, 2)}
    )
    with pytest.raises(DomainError, match=r"net\.stages\.1\.width: 7 is not in IntRange\(low=8"):
        domain.encode({"stages": ({"width": 8}, {"width": 7})}, "net")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: IntRange(2, 1), "low <= high"),
        (lambda: IntRange(1, 10, step=2), "the last one is 9"),
        (lambda: IntRange(0, 10, log=True), "log needs low >= 1"),
        (lambda: IntRange(1, 4, initial=5), "initial value is outside"),
        (lambda: FloatRange(0.0, 1.0, log=True), "log needs low > 0"),
        (lambda: FloatRange(0.0, math.inf), "finite"),
        (lambda: FloatRange(0.0, 1.0, step=0.3), "off the grid"),
        (lambda: FloatRange(0.0, 1.0, step=-0.5), "above zero"),
        (lambda: FloatRange(0.0, 1.0, initial=2.0), "initial value is outside"),
        (lambda: OneOf({}), "needs branches"),
        (lambda: OneOf({1: Const("a"), "1": Const("b")}), "look different"),
        (lambda: choice(1, 1.0), "be unequal"),
        (lambda: choice(1, True), "be unequal"),
        (lambda: choice(0.0, False), "be unequal"),
        (lambda: OneOf({"a.b": IntRange(0, 1)}), "contains a dot"),
        (lambda: OneOf({"a": Const(0)}, initial="b"), "no branch 'b'"),
        (lambda: OneOf({"a": IntRange(0, 3), "b": IntRange(3, 5)}), "'b' and 'a' share a value"),
        (lambda: choice("a", "a"), "look different"),
        (lambda: Repeat(Const(0), 2, 1), "low <= high"),
        (lambda: Repeat(IntRange(0, 1), 1, 2, initial=(7,)), "initial value is outside"),
        (lambda: Record(dict, {"a.b": Const(0)}), "Python identifier"),
        (lambda: OneOf({"a": Inline(IntRange(0, 1))}), "only a record's field can be inline"),
        (lambda: Repeat(Inline(IntRange(0, 1)), 1, 2), "only a record's field can be inline"),
        (
            lambda: Record(dict, {"width": Const(0), "block": Inline(choice("depth", "width"))}),
            "'width' and 'block' both ask for 'width'",
        ),
        (
            lambda: Record(
                dict,
                {
                    "a": Inline(Record(dict, {"c": Inline(IntRange(0, 1))})),
                    "b": Inline(IntRange(0, 1)),
                },
            ),
            "'a' and 'b' both ask for ''",
        ),
    ],
)
def test_domains_that_would_break_a_law_cannot_be_made(make: Any, reason: str) -> None:
    with pytest.raises(SpaceError, match=reason):
        make()


def test_a_value_that_two_branches_hold_is_the_spaces_fault_not_the_values() -> None:
    domain = OneOf({"low": IntRange(0, 4), "high": IntRange(2, 9, initial=8)})
    with pytest.raises(SpaceError, match="p: 3 is in several branches"):
        domain.encode(3, "p")


def test_a_name_of_its_own_changes_nothing_about_what_is_decided() -> None:
    within = IntRange(2, 5, initial=3)
    for named in (Shared("width", within), Inline(within)):
        assert (named.default(), named.size()) == (3, 4)
        assert [value for value in range(8) if value in named] == [2, 3, 4, 5]


def test_declared_defaults_are_taken() -> None:
    domain = Record(
        dict,
        {
            "count": IntRange(1, 9, initial=4),
            "rate": FloatRange(0.0, 1.0, initial=0.5),
            "form": choice("a", "b", initial="b"),
            "items": Repeat(IntRange(0, 9), 1, 3, initial=(5, 6)),
        },
    )
    assert domain.default() == {"count": 4, "rate": 0.5, "form": "b", "items": (5, 6)}
