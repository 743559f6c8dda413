"""Designs: given decisions are kept, the choices above them follow, others stay open."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.studies import BRANCHING

from search_spaces import catalog
from search_spaces.designs import Design, DesignError, fixed_decisions
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester, is_answer

HYBRID = catalog.load("hybrid")
STAGE = "architecture.streams.image.stages"


def sampled(seed: int) -> dict[str, Any]:
    suggester = RandomSuggester(seed)
    HYBRID.resolve(suggester)
    return suggester.params


@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_any_part_of_a_candidate_is_kept_with_the_choices_above_it(seed: int, share: float) -> None:
    whole, rng = sampled(seed), random.Random(seed)
    part = {name: value for name, value in whole.items() if rng.random() < share}
    fixed = fixed_decisions(HYBRID, Design(params=part))
    assert part.items() <= fixed.items()
    for other in range(3):  # whatever a sampler makes of the rest, all of them apply
        suggester = RandomSuggester(other, fixed)
        HYBRID.resolve(suggester)
        assert fixed.keys() <= suggester.questions.keys()


@given(seed=st.integers(0, 10_000), other=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_changed_known_candidate_loses_only_what_does_not_apply(seed: int, other: int) -> None:
    base, changed = sampled(seed), sampled(other)
    name = random.Random(seed).choice([*changed])
    fixed = fixed_decisions(HYBRID, Design(params={name: changed[name]}, base=base))
    assert fixed[name] == changed[name]
    suggester = RandomSuggester(0, fixed)
    HYBRID.resolve(suggester)
    asked = suggester.questions.items()
    fitting = {key for key, question in asked if key in base and is_answer(question, base[key])}
    assert fitting <= fixed.keys()


def test_a_path_names_the_choices_and_the_number_of_parts_above_it() -> None:
    fixed = fixed_decisions(HYBRID, Design(params={f"{STAGE}.3.gate.attention.heads": 4}))
    assert fixed == {
        f"{STAGE}.count": 4,
        f"{STAGE}.3": "gate",
        f"{STAGE}.3.gate.attention.heads": 4,
    }


def test_a_whole_number_is_a_number() -> None:
    fixed = fixed_decisions(HYBRID, Design(params={f"{STAGE}.0.attention.mlp_ratio": 2}))
    assert type(fixed[f"{STAGE}.0.attention.mlp_ratio"]) is float


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"recipe.optimizr": "adamw"}, "has no such decision. Did you mean 'recipe.optimizer'?"),
        ({"recipe.optimizer": "adam"}, "is none of 'sgd_nesterov', 'adamw'"),
        ({"recipe.warmup": True}, "True is not a number from 0.0 to 0.5"),
        (
            {"recipe.optimizer": "sgd_nesterov", "recipe.optimizer.adamw.weight_decay": 0.01},
            "recipe.optimizer.adamw.weight_decay: does not apply",
        ),
        ({f"{STAGE}.count": 2, f"{STAGE}.3.depth": 1}, f"{STAGE}.3.depth: does not apply"),
    ],
)
def test_what_does_not_fit_the_space_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(DesignError) as refused:
        fixed_decisions(HYBRID, Design(params=params))
    assert message in str(refused.value)


def test_a_function_is_run_until_it_asks_for_the_given_decisions() -> None:
    assert fixed_decisions(BRANCHING, Design(params={"depth": 3})) == {"depth": 3}


@pytest.mark.parametrize("form", ["candidate", "trial"])
def test_a_candidate_of_another_version_of_the_space_is_found_in_it(form: str) -> None:
    params = sampled(3)
    candidate = HYBRID.resolve(ReplaySuggester(params)).to_dict()
    candidate["space"] = {"name": "hybrid", "version": "0"}
    document = candidate if form == "candidate" else {"trial": {"candidate": candidate}}
    assert Design.of_document(HYBRID, document) == Design(base=params)
    assert Design.of_document(HYBRID, {"recipe.warmup": 0.1}) == Design(
        params={"recipe.warmup": 0.1}
    )
