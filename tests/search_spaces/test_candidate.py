"""Candidates as plain data, and digests that depend on the network, not on its encoding."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.candidate import Candidate, CandidateError, Decisions, candidate_from_dict
from search_spaces.catalog import catalog, load
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.loss_terms import LossTerm, LossWeights
from search_spaces.recipe import Recipe

SPACES = {name: load(name) for name in catalog()}


class Fixed:
    """Replaces an architecture, so that digests are pinned whatever blocks there are."""

    def to_dict(self) -> dict[str, Any]:
        return {"streams": {"image": {"stem": {}, "stages": [{"width": 64}]}}}

    def describe(self) -> str:
        return "C64"


def fixed(**parts: Any) -> Candidate:
    return Candidate(architecture=Fixed(), space_name="s", space_version="1", **parts)  # type: ignore[arg-type]


def test_digests_are_pinned() -> None:
    recipe = Recipe(
        optimizer="sgd_nesterov",
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="one_cycle",
        warmup=0.25,
        augmentation="none",
        batch_size=64,
        accumulation=1,
        precision="auto",
        gradient_clip=None,
    )
    assert (
        fixed(recipe=recipe).digest
        == "3d06ed5c00e168993e0524490a2ec93b6ffef7e03385603057d56ff8f73824bb"
    )
    assert (
        fixed(recipe=replace(recipe, batch_size=32)).digest
        == "8e7d91a0d371cf05d456342093ea940f6880d4f25b45b5e4c594b45014f6f05d"
    )
    assert (
        Decisions(decisions={"width": 8, "rate": 0.1}).digest
        == "3ac3b1eb0ecc6afdb7afd78e5f536510db9d28038b1ef983b024855cc2e18a0e"
    )


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(catalog()), seed=st.integers(0, 2**32))
def test_a_candidate_survives_json_with_its_digest(name: str, seed: int) -> None:
    candidate = SPACES[name].resolve(RandomSuggester(seed))
    again = candidate_from_dict(json.loads(json.dumps(candidate.to_dict())))
    assert again == candidate
    assert again.digest == candidate.digest
    assert again.to_dict() == candidate.to_dict()


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(catalog()), seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_candidates_share_a_digest_only_if_they_are_the_same(
    name: str, seeds: tuple[int, int]
) -> None:
    one, other = (SPACES[name].resolve(RandomSuggester(seed)) for seed in seeds)
    assert (one.digest == other.digest) == (one == other)


@pytest.mark.parametrize(
    "change",
    [
        {"losses": LossWeights(terms={"cross_entropy": LossTerm(weight=0.3)})},
        {"losses": LossWeights(terms={"focal": LossTerm(weight=0.0), "cross_entropy": LossTerm()})},
        {"recipe": Recipe.from_dict({"batch_size": 64.0})},
        {"recipe": Recipe.from_dict({})},
    ],
)
def test_another_encoding_of_the_same_training_has_the_same_digest(change: dict[str, Any]) -> None:
    assert fixed(**change).digest == fixed().digest


def test_the_candidate_keeps_its_own_encoding() -> None:
    losses = LossWeights(terms={"cross_entropy": LossTerm(weight=0.3), "focal": LossTerm(weight=0)})
    written = fixed(losses=losses).to_dict()["losses"]
    assert written == {
        "main": "cross_entropy",
        "terms": {"cross_entropy": {"weight": 0.3}, "focal": {"weight": 0}},
        "balancer": "fixed",
    }


def test_the_space_does_not_count_for_the_digest() -> None:
    moved = Candidate(architecture=Fixed(), space_name="other", space_version="2")  # type: ignore[arg-type]
    assert moved.digest == fixed().digest


def test_the_json_form_has_the_published_keys() -> None:
    data = SPACES["tiny"].default().to_dict()
    assert list(data) == ["schema", "space", "architecture", "recipe", "losses"]
    assert data["schema"] == 1
    assert data["space"] == {"name": "tiny", "version": SPACES["tiny"].version}
    assert set(data["architecture"]) >= {"streams", "fusion", "head"}
    assert set(data["architecture"]["streams"]["image"]) == {"stem", "stages"}
    assert set(data["losses"]) >= {"terms", "balancer"}


def without(part: str) -> dict[str, Any]:
    data = SPACES["tiny"].default().to_dict()
    del data[part]
    return data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "schema None cannot be read, only 1"),
        ({"schema": 2, "decisions": {}}, "schema 2 cannot be read"),
        ({"schema": 1, "decisions": 3}, "'decisions' is missing"),
        (without("recipe"), "'recipe' is missing"),
        (without("architecture"), "'architecture' is missing"),
        (SPACES["tiny"].default().to_dict() | {"recipe": {"rate": 1}}, "recipe: no field 'rate'"),
        (SPACES["tiny"].default().to_dict() | {"losses": 3}, "candidate: "),
        (SPACES["tiny"].default().to_dict() | {"architecture": {}}, "'streams' is missing"),
    ],
)
def test_json_that_is_no_candidate_is_refused(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(CandidateError) as caught:
        candidate_from_dict(data)
    assert reason in str(caught.value)


def test_decisions_survive_json_and_read_in_one_line() -> None:
    decisions = Decisions(decisions={"width": 8, "rate": 0.123456, "kind": "a"})
    again = candidate_from_dict(json.loads(json.dumps(decisions.to_dict())))
    assert again == decisions
    assert again.digest == decisions.digest
    assert decisions.describe() == "width=8 rate=0.1235 kind=a"
    assert len(Decisions(decisions={"x" * 200: 1}).describe()) == 80


def test_a_candidate_reads_as_its_network() -> None:
    assert fixed().describe() == "C64"


def test_a_candidate_is_a_table_of_its_values_in_a_notebook() -> None:
    decided = Decisions(decisions={"rate": 0.125, "<b>": [1, {"x": "a&b"}]})
    page = decided._repr_html_()
    assert page.count("<tr>") == 3
    for text in ("rate</th>", "0.125", "&lt;b&gt;.1.x", "a&amp;b"):
        assert text in page
