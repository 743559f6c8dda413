"""Pool: candidates that a model may rank: neighbors of the best, prior and uniform samples."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from orchestrator.sampling.candidates import Space
from orchestrator.sampling.mutation import MutatingSuggester, PriorSuggester
from orchestrator.sampling.scales import num_answers
from search_spaces.domains.priors import Expected
from search_spaces.domains.structure import Part
from search_spaces.domains.suggester import IntQuestion, Question

NEIGHBOR_SHARE = 0.5
PRIOR_SHARE = 0.25
"""Shares of a broad pool; the others are uniform."""
_MAX_REPEATED = 160
"""Samples in a row that are known already after which no more are taken: a space may be used up."""

Key = frozenset[tuple[str, Any]]
"""Decisions of a candidate, to find those that are known."""


NO_PARTS: Mapping[str, Part] = MappingProxyType({})


class Parent:
    """A candidate whose neighbors are sampled."""

    def __init__(self, params: Mapping[str, Any], questions: Mapping[str, Question]) -> None:
        self.params = params
        """Decisions by name."""
        self.questions = questions
        """Their questions, in the order of the space."""
        self.variable = [name for name, asked in questions.items() if num_answers(asked) > 1]
        """Names of the decisions that have another answer."""
        self.repeats = [
            (name.removesuffix(".count"), asked)
            for name, asked in questions.items()
            if name.endswith(".count") and isinstance(asked, IntQuestion) and asked.high > 1
        ]
        """Path and length of each repeated part whose length is a decision, `PATH.count`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """How far neighbors are from their parent."""

    changes: Sequence[int]
    """Numbers of changed decisions, equally likely."""
    structural_share: float
    """Share in which one change is of a repeated part: doubled, removed or swapped."""
    widths: tuple[float, float]
    """Standard deviation of a continuous change, relative to the range; log-uniform."""


BROAD = Mutation(changes=(1, 2, 4, 8), structural_share=0.25, widths=(0.03, 0.4))
"""Around known trials: from a poor start small changes lead nowhere."""
LOCAL = Mutation(changes=(1, 2, 3), structural_share=0.1, widths=(0.02, 0.2))
"""Around samples of the pool: climbs to a maximum of what the model expects."""


def key_of(params: Mapping[str, Any]) -> Key:
    """Return the key of a candidate's decisions."""
    return frozenset(params.items())


class Pool:
    """New samples of a space: each is resolved, unknown to the study, and in the pool once."""

    def __init__(
        self,
        space: Space,
        expected: Mapping[str, Expected],
        parts: Mapping[str, Part],
        known: Collection[Key],
        rng: random.Random,
    ) -> None:
        """Start empty.

        Args:
            space: The study's space.
            expected: Decisions that have a prior, by name.
            parts: Part of the space that depends on each decision, by its name.
            known: Candidates that are left out.
            rng: Source of all samples.
        """
        self._space, self._expected, self._known, self._rng = space, expected, known, rng
        self._parts = parts
        self._keys: set[Key] = set()
        self.samples: list[MutatingSuggester] = []
        """All samples, in the order in which they were added."""

    def add_broad(self, count: int, parents: Sequence[Parent]) -> None:
        """Add neighbors of parents, prior samples and uniform ones."""
        self._add(count, lambda: self._broad(self._rng.random(), parents))

    def add_in_turn(self, count: int, parents: Sequence[Parent], turn: int) -> None:
        """Add samples of one kind: neighbors of parents, prior or uniform ones by turns."""
        share = (0.0, NEIGHBOR_SHARE, NEIGHBOR_SHARE + PRIOR_SHARE)[turn % 3]
        self._add(count, lambda: self._broad(share, parents))

    def add_neighbors(self, count: int, of: Sequence[MutatingSuggester]) -> None:
        """Add close neighbors of samples of the pool."""
        parents = [Parent(each.params, each.questions) for each in of]
        self._add(count, lambda: self._neighbor(parents, LOCAL))

    def _add(self, count: int, sample: Callable[[], MutatingSuggester]) -> None:
        enough, repeated = len(self.samples) + count, 0
        while len(self.samples) < enough and repeated < _MAX_REPEATED:
            suggester = sample()
            if not suggester.params:
                self._space.resolve(suggester)
            key = key_of(suggester.params)
            if key in self._known or key in self._keys:
                repeated += 1
                continue
            repeated = 0
            self._keys.add(key)
            self.samples.append(suggester)

    def _broad(self, share: float, parents: Sequence[Parent]) -> MutatingSuggester:
        if share < NEIGHBOR_SHARE and parents:
            return self._neighbor(parents, BROAD)
        if share < NEIGHBOR_SHARE + PRIOR_SHARE:
            return PriorSuggester({}, self._expected, self._rng)
        return MutatingSuggester({}, (), self._rng)

    def _neighbor(self, parents: Sequence[Parent], mutation: Mutation) -> MutatingSuggester:
        parent = self._rng.choice(parents)
        return neighbor_of(parent, mutation, self._rng, self._parts)


def neighbor_of(
    parent: Parent, mutation: Mutation, rng: random.Random, parts: Mapping[str, Part] = NO_PARTS
) -> MutatingSuggester:
    """Return a suggester for a neighbor.

    Args:
        parent: The candidate whose neighbor is sampled.
        mutation: How far it is.
        rng: Source of the changes.
        parts: Part of the space that depends on each decision. If all that change have one, the
            suggester has answered all questions already, as if the space had been run.
    """
    changes, params, lengths = rng.choice(mutation.changes), parent.params, set[str]()
    if parent.repeats and rng.random() < mutation.structural_share:
        path, length = rng.choice(parent.repeats)
        params, changes = _restructured(params, path, length, rng), changes - 1
        lengths.add(f"{path}.count")
    changed = frozenset(rng.sample(parent.variable, min(changes, len(parent.variable))))
    suggester = MutatingSuggester(params, changed, rng, mutation.widths)
    if lengths.union(changed).issubset(parts):
        _run_parts(suggester, parent, lengths.union(changed), parts)
    return suggester


def _run_parts(
    suggester: MutatingSuggester,
    parent: Parent,
    changed: Collection[str],
    parts: Mapping[str, Part],
) -> None:
    """Run the parts of the space that depend on some decisions; other answers are the parent's."""
    params = suggester.params
    closed = tuple(start for name in changed for start in parts[name].below(parent.params[name]))
    for name, question in parent.questions.items():
        if name in params or (closed and f"{name}.".startswith(closed)):
            continue
        if name in changed:
            parts[name].domain.resolve(suggester, parts[name].path)
        else:
            suggester.repeat(name, question)
    for name in [n for n in params if n in parts and parts[n].conditions] if closed else ():
        if not any(params.get(other) in answers for other, answers in parts[name].conditions):
            del params[name], suggester.questions[name]


def _restructured(
    params: Mapping[str, Any], path: str, length: IntQuestion, rng: random.Random
) -> dict[str, Any]:
    """Return decisions with one item of a repeated part doubled, removed or swapped."""
    count = params[f"{path}.count"]
    items = [_item(params, f"{path}.{index}") for index in range(count)]
    old = {f"{path}.{index}{rest}" for index, item in enumerate(items) for rest in item}
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
