"""The pool of samples: resolved, new, and as near to their parents as promised."""

import random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.studies import BRANCHING

from orchestrator.sampling.encoding import Encoder, dense
from orchestrator.sampling.mutation import MutatingSuggester
from orchestrator.sampling.pool import BROAD, LOCAL, Mutation, Parent, Pool, key_of, neighbor_of
from search_spaces import catalog
from search_spaces.derivation import derive
from search_spaces.domains import Const, IntRange, OneOf, Record, Repeat, Shared, choice
from search_spaces.domains.edits import SpaceEdits
from search_spaces.domains.structure import decision_parts
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.space import DefineByRunSpace, SearchSpace

STAGE = Record(dict, {"kind": choice("conv", "attention"), "width": IntRange(8, 64, log=True)})
STAGES = Repeat(STAGE, 1, 4)
HYBRID = catalog.load("hybrid")
EDITED = derive(
    HYBRID,
    SpaceEdits(
        fix={"stages.0": "gate", "recipe.optimizer": "adamw"},
        narrow={"stages.1": ["attention", "residual"], "stages.2.width": [64, 96]},
        remove={"normalisation": ["batch"]},
    ),
)
STRUCTURED = [HYBRID, EDITED, *map(catalog.load, ("transformer", "image_text", "vector"))]


def build(suggester: Any) -> dict[str, Any]:
    """Stages, and a decision that depends on another."""
    stages = STAGES.resolve(suggester, "stages")
    pooled = suggester.suggest_categorical("pooled", [True, False])
    window = suggester.suggest_int("window", 1, 9) if pooled else 0
    return {"stages": list(stages), "window": window}


SPACE = DefineByRunSpace(name="stages", version="1", function=build)


def known(seed: int) -> RandomSuggester:
    suggester = RandomSuggester(seed)
    SPACE.resolve(suggester)
    return suggester


def parent(seed: int) -> Parent:
    suggester = known(seed)
    return Parent(suggester.params, suggester.questions)


def mutated(changes: int, *, structural: float) -> Mutation:
    return Mutation(changes=(changes,), structural_share=structural, widths=(0.03, 0.4))


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(1, 8))
def test_a_neighbor_changes_as_many_decisions_as_asked(seed: int, other: int, changes: int) -> None:
    near, mutation = parent(seed), mutated(changes, structural=0.0)
    suggester = neighbor_of(near, mutation, random.Random(other))
    SPACE.resolve(suggester)
    both = suggester.params.keys() & near.params.keys()
    changed = [name for name in both if suggester.params[name] != near.params[name]]
    assert len(changed) <= changes
    assert changed or changes > len(both)
    new = suggester.params.keys() - near.params.keys()
    opened = {"stages.count", "pooled"} & set(changed)
    assert opened or not new


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_a_structural_change_doubles_removes_or_swaps_a_stage(seed: int, other: int) -> None:
    near = parent(seed)
    suggester = neighbor_of(near, mutated(1, structural=1.0), random.Random(other))
    before = build(ReplaySuggester(near.params))["stages"]
    after = SPACE.resolve(suggester).decisions["stages"]
    if len(after) > len(before):
        assert any(after[:i] + after[i + 1 :] == before for i in range(len(after)))
    elif len(after) < len(before):
        assert any(before[:i] + before[i + 1 :] == after for i in range(len(before)))
    else:
        assert sorted(map(str, after)) == sorted(map(str, before))


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_a_pool_has_new_candidates_once(seed: int) -> None:
    tried = {key_of(known(number).params) for number in range(30)}
    pool = Pool(SPACE, {}, {}, tried, random.Random(seed))
    pool.add_broad(30, [parent(0), parent(1)])
    pool.add_neighbors(20, pool.samples[:3])
    assert len(pool.samples) == 50
    keys = {key_of(each.params) for each in pool.samples}
    assert len(keys) == 50
    assert not keys & tried
    for each in pool.samples:
        SPACE.resolve(ReplaySuggester(each.params))


@given(
    st.sampled_from(STRUCTURED),
    st.integers(0, 2**32),
    st.integers(0, 2**32),
    st.sampled_from((BROAD, LOCAL)),
)
@settings(max_examples=100)
def test_running_the_parts_that_change_answers_all_questions_of_the_space(
    space: SearchSpace, seed: int, other: int, mutation: Mutation
) -> None:
    start = RandomSuggester(seed)
    space.resolve(start)
    near = Parent(start.params, start.questions)
    suggester = neighbor_of(near, mutation, random.Random(other), space.parts())
    replay, answered = ReplaySuggester(suggester.params), dict(suggester.questions)
    space.resolve(replay)
    assert not replay.unused()
    again = RandomSuggester(0, given=suggester.params)
    space.resolve(again)
    assert answered == again.questions


@given(st.integers(0, 2**32), st.integers(0, 2**32))
@settings(max_examples=25)
def test_without_shared_decisions_it_is_the_same_as_running_the_space(
    seed: int, other: int
) -> None:
    space = catalog.load("transformer")
    start = RandomSuggester(seed)
    space.resolve(start)
    near = Parent(start.params, start.questions)
    run = neighbor_of(near, BROAD, random.Random(other))
    space.resolve(run)
    short = neighbor_of(near, BROAD, random.Random(other), space.parts())
    assert list(short.params.items()) == list(run.params.items())
    assert list(short.questions.items()) == list(run.questions.items())


def test_every_decision_of_a_built_in_space_has_a_part() -> None:
    for space in STRUCTURED:
        names = space.parts().keys()
        for seed in range(5):
            start = RandomSuggester(seed)
            space.resolve(start)
            assert start.params.keys() <= names


def test_decisions_on_which_unknown_ones_may_depend_have_no_part() -> None:
    class Unknown:
        """A domain of another kind."""

        def default(self) -> int:
            return 0

        def __contains__(self, value: object) -> bool:
            return value == 0

    deep = Shared("depth", OneOf({"few": Const(1), "more": IntRange(2, 9)}))
    pooled = OneOf({"no": Const(0), "yes": Record(dict, {"rate": IntRange(1, 3), "deep": deep})})
    odd: Any = OneOf({"no": Const(1), "yes": Unknown()})
    names = decision_parts(Record(dict, {"stages": STAGES, "pooled": pooled, "odd": odd})).keys()
    assert {"stages.count", "stages.3.width", "pooled.yes.rate", "depth"} <= names
    assert names.isdisjoint({"pooled", "odd"})


def test_a_small_space_is_searched_to_its_end() -> None:
    def eight(suggester: Any) -> None:
        for name in "abc":
            suggester.suggest_categorical(name, [0, 1])

    space = DefineByRunSpace(name="eight", version="1", function=eight)
    pool = Pool(space, {}, {}, {key_of({"a": 0, "b": 0, "c": 0})}, random.Random(0))
    pool.add_broad(40, [])
    assert len(pool.samples) == 7


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_different_candidates_have_different_features(one: int, other: int) -> None:
    encoder = Encoder()
    rows = [encoder.encode(k.params, k.questions) for k in (known(one), known(other))]
    first, second = dense(rows, encoder.width)
    assert (known(one).params == known(other).params) == np.array_equal(first, second)


def test_an_absent_number_differs_from_its_lowest_value() -> None:
    encoder = Encoder()
    rows = []
    for params in ({"kind": "flat", "rate": 1.0}, {"kind": "steep", "rate": 1.0, "depth": 1}):
        suggester = MutatingSuggester(params, (), random.Random(0))
        BRANCHING.resolve(suggester)
        rows.append(encoder.encode(suggester.params, suggester.questions))
    absent, lowest = dense(rows, encoder.width)
    assert encoder.width == 4
    assert absent[3] == 0.0
    assert lowest[3] == 0.5


def test_ranges_that_end_on_one_grid_value_share_a_feature() -> None:
    encoder = Encoder()
    suggester = RandomSuggester(0)
    for high in (9, 10):
        suggester.questions.clear()
        suggester.suggest_int("depth", 1, high, step=4)
        encoder.encode(suggester.params, suggester.questions)
    assert encoder.width == 1
    suggester.questions.clear()
    suggester.suggest_int("depth", 1, 13, step=4)
    encoder.encode(suggester.params, suggester.questions)
    assert encoder.width == 2
