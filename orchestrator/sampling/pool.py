"""Pool: candidates that a model may rank: neighbors of the best, prior and uniform samples."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.sampling.candidates import Space
from orchestrator.sampling.mutation import MutatingSuggester, PriorSuggester
from orchestrator.sampling.scales import num_answers
from search_spaces.domains.priors import Expected
from search_spaces.domains.suggester import IntQuestion, Question

NEIGHBOR_SHARE = 0.5
PRIOR_SHARE = 0.25
"""Shares of the samples; the others are uniform."""
NUM_CHANGES = (1, 2, 4, 8)
"""Numbers of changed decisions, equally likely: most changes of many decisions harm, but from a
poor start small ones lead nowhere."""
STRUCTURAL_SHARE = 0.25
"""Share of the neighbors in which one change is of a repeated part: doubled, removed or swapped."""
_MAX_REPEATED = 160
"""Samples in a row that were tried before after which a space counts as exhausted."""

Key = frozenset[tuple[str, Any]]
"""Decisions of a candidate, to find those that were tried before."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A candidate whose neighbors are sampled."""

    params: Mapping[str, Any]
    questions: Mapping[str, Question]


def key_of(params: Mapping[str, Any]) -> Key:
    """Return the key of a candidate's decisions."""
    return frozenset(params.items())


def new_samples(
    space: Space,
    parents: Sequence[Parent],
    expected: Mapping[str, Expected],
    tried: Collection[Key],
    rng: random.Random,
) -> Iterator[MutatingSuggester]:
    """Yield resolved samples, each once, until the space is exhausted.

    Args:
        space: The study's space.
        parents: Candidates whose neighbors are sampled; may be empty.
        expected: Decisions that have a prior, by name.
        tried: Candidates that are left out.
        rng: Source of all samples.
    """
    seen: set[Key] = set()
    repeated = 0
    while repeated < _MAX_REPEATED:
        sample = _sample(parents, expected, rng)
        space.resolve(sample)
        key = key_of(sample.params)
        if key in tried or key in seen:
            repeated += 1
            continue
        seen.add(key)
        repeated = 0
        yield sample


def _sample(
    parents: Sequence[Parent], expected: Mapping[str, Expected], rng: random.Random
) -> MutatingSuggester:
    share = rng.random()
    if share < NEIGHBOR_SHARE and parents:
        return _neighbor(rng.choice(parents), rng)
    if share < NEIGHBOR_SHARE + PRIOR_SHARE:
        return PriorSuggester({}, expected, rng)
    return MutatingSuggester({}, (), rng)


def _neighbor(parent: Parent, rng: random.Random) -> MutatingSuggester:
    """Return a suggester for a neighbor with 1, 2, 4 or 8 changes."""
    changes, params = rng.choice(NUM_CHANGES), parent.params
    repeats = _repeats(parent)
    if repeats and rng.random() < STRUCTURAL_SHARE:
        params, changes = _restructured(params, *rng.choice(repeats), rng), changes - 1
    names = [name for name, q in parent.questions.items() if num_answers(q) > 1]
    changed = frozenset(rng.sample(names, min(changes, len(names))))
    return MutatingSuggester(params, changed, rng)


def _repeats(parent: Parent) -> list[tuple[str, IntQuestion]]:
    """Return path and length of each repeated part whose length is a decision, `PATH.count`."""
    return [
        (name.removesuffix(".count"), question)
        for name, question in parent.questions.items()
        if name.endswith(".count") and isinstance(question, IntQuestion) and question.high > 1
    ]


def _restructured(
    params: Mapping[str, Any], path: str, length: IntQuestion, rng: random.Random
) -> dict[str, Any]:
    """Return decisions with one item of a repeated part doubled, removed or swapped."""
    count = params[f"{path}.count"]
    items = [_item(params, f"{path}.{index}") for index in range(count)]
    edits = ["double"] * (0 < count < length.high) + ["remove"] * (count > length.low)
    edits += ["swap"] * (count > 1)
    if not edits:
        return dict(params)
    edit, index = rng.choice(edits), rng.randrange(count)
    if edit == "double":
        items.insert(index, items[index])
    elif edit == "remove":
        items.pop(index)
    else:
        other = (index + 1) % count
        items[index], items[other] = items[other], items[index]
    old = {f"{path}.{i}{rest}" for i in range(count) for rest in _item(params, f"{path}.{i}")}
    changed = {name: value for name, value in params.items() if name not in old}
    changed[f"{path}.count"] = len(items)
    for index, item in enumerate(items):
        changed |= {f"{path}.{index}{rest}": value for rest, value in item.items()}
    return changed


def _item(params: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the decisions of one item, by the rest of their names."""
    return {
        name[len(path) :]: value
        for name, value in params.items()
        if name == path or name.startswith(f"{path}.")
    }
