"""Spaces of tables: decisions without networks, whose candidates know their predicted cost."""

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search_spaces.candidate import Decisions
from search_spaces.domains import Domain
from search_spaces.domains.priors import Expected, sample_prior
from search_spaces.domains.structure import Part, decision_parts
from search_spaces.domains.suggester import (
    BaseSuggester,
    ChoiceQuestion,
    IntQuestion,
    Question,
    RecordingSuggester,
    Suggester,
    grid_point,
    sample,
)
from search_spaces.space import Constraint, SearchSpace, SpaceError
from search_spaces.task import Task

Params = Mapping[str, Any]
"""Decisions of a candidate by name."""
GRID_STEPS = 50
"""Most steps of a number that is changed by whole steps."""
LONGER_STEP = 0.4
"""Probability that such a change goes one step further."""


@dataclass(frozen=True, kw_only=True)
class TableCandidate:
    """Decisions with a predicted cost; the candidate of a study in simulated time."""

    params: Params
    flops: Callable[[Params], float] = field(repr=False, compare=False)
    """Predicts the cost of training these decisions."""

    @cached_property
    def digest(self) -> str:
        """Digest of the decisions."""
        return Decisions(decisions=self.params).digest

    def network_digest(self, task: Task) -> str:  # noqa: ARG002 - as Candidate's
        """Return the digest of the decisions."""
        return self.digest

    def cost(self, task: Task) -> dict[str, float]:  # noqa: ARG002 - as Candidate's
        """Return the predicted cost as `flops`."""
        return {"flops": self.flops(self.params)}

    def shapes(self, task: Task) -> dict[str, Any]:  # noqa: ARG002 - as Candidate's
        """Return no shapes."""
        return {}

    def describe(self) -> str:
        """Return the decisions in one line."""
        return Decisions(decisions=self.params).describe()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, which a worker of the table reads."""
        return Decisions(decisions=self.params).to_dict()


@dataclass(frozen=True, kw_only=True)
class TableSpace:
    """A space that a study samples like a SearchSpace, without architectures.

    Examples:
        >>> TableSpace(name="t", domain=IntRange(1, 9), start={"": 1}, flops=lambda params: 1.0)
    """

    name: str
    domain: Domain[Any]
    """Asks for the decisions; the value it makes is not used."""
    start: Params
    """Decisions of the default candidate."""
    flops: Callable[[Params], float]
    """Predicts the cost of a candidate."""
    priors: Mapping[str, Expected] = field(default_factory=dict)
    """Decisions with a prior, by name."""
    designs: Sequence[Params] = ()
    """First designs besides the default, as `SearchSpace.kinds` returns them."""
    version: str = "1"
    constraints: tuple[Constraint, ...] = ()

    def resolve(self, suggester: Suggester) -> TableCandidate:
        """Return the candidate for a suggester's answers."""
        recorder = RecordingSuggester(suggester)
        self.domain.resolve(recorder, "")
        return TableCandidate(params=recorder.params, flops=self.flops)

    def default_params(self) -> dict[str, Any]:
        """Return the decisions of the default candidate."""
        return dict(self.start)

    def default(self) -> TableCandidate:
        """Return the default candidate."""
        return TableCandidate(params=self.default_params(), flops=self.flops)

    def expected(self) -> dict[str, Expected]:
        """Return the decisions that have a prior, by name."""
        return dict(self.priors)

    def parts(self) -> dict[str, Part]:
        """Return the part of the space that depends on each decision, by the decision's name."""
        return decision_parts(self.domain)

    def kinds(self) -> list[dict[str, Any]]:
        """Return the first designs besides the default."""
        return [dict(params) for params in self.designs]

    def size(self) -> float:
        """Return the number of candidates."""
        return self.domain.size()

    def encode_network(self, architecture: Any) -> dict[str, Any]:  # noqa: ARG002 - as SearchSpace's
        """Refuse; a table contains no networks.

        Raises:
            SpaceError: Always.
        """
        raise SpaceError(f"space '{self.name}' contains no networks")


@dataclass(frozen=True, kw_only=True)
class FlatDecision:
    """One decision of a flat domain; active if its parent has one of the allowed values."""

    domain: Domain[Any]
    parent: str | None = None
    allowed: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FlatDomain:
    """A conditional space as a list of decisions, parents first."""

    decisions: Mapping[str, FlatDecision]

    def resolve(self, suggester: Suggester, path: str) -> dict[str, Any]:  # noqa: ARG002 - as Domain's
        """Return the active decisions for a suggester's answers."""
        params: dict[str, Any] = {}
        for name, decision in self.decisions.items():
            if decision.parent is None or params.get(decision.parent) in decision.allowed:
                params[name] = decision.domain.resolve(suggester, name)
        return params

    def size(self) -> float:
        """Return infinity; the combinations are not counted."""
        return math.inf


def canonical_key(params: Params) -> str:
    """Return the decisions as text, equal for equal candidates."""
    return json.dumps(params, sort_keys=True, separators=(",", ":"))


def draw_uniform(space: TableSpace | SearchSpace, rng: random.Random) -> dict[str, Any]:
    """Return uniformly sampled decisions."""
    return _ask(space, _Answers({}, rng))


def draw_prior(space: TableSpace | SearchSpace, rng: random.Random) -> dict[str, Any]:
    """Return decisions sampled from their priors, uniformly where there is none."""
    given = {name: sample_prior(domain, rng) for name, domain in space.expected().items()}
    return _ask(space, _Answers(given, rng))


def draw_neighbor(
    space: TableSpace | SearchSpace,
    params: Params,
    rng: random.Random,
    *,
    changes: int = 1,
    width: float = 0.2,
) -> dict[str, Any]:
    """Return a neighbor of known decisions.

    Args:
        space: The space.
        params: The known decisions.
        rng: Random numbers.
        changes: Number of decisions to change; what becomes active is sampled.
        width: Standard deviation of a changed number, relative to its range.
    """
    names = sorted(params)
    changed = rng.sample(names, min(changes, len(names)))
    return _ask(space, _Answers(params, rng, frozenset(changed), width))


def _ask(space: TableSpace | SearchSpace, answers: "_Answers") -> dict[str, Any]:
    space.resolve(answers)
    return answers.params


class _Answers(BaseSuggester):
    """Known answers, some of them changed to neighboring ones; samples the others."""

    def __init__(
        self,
        known: Params,
        rng: random.Random,
        changed: frozenset[str] = frozenset(),
        width: float = 0.2,
    ) -> None:
        self.params: dict[str, Any] = {}
        self._known = known
        self._rng = rng
        self._changed = changed
        self._width = width

    def answer(self, name: str, question: Question) -> Any:
        if name not in self._known:
            value = sample(question, self._rng)
        elif name in self._changed:
            value = near(question, self._known[name], self._rng, self._width)
        else:
            value = self._known[name]
        self.params[name] = value
        return value


def near(question: Question, value: Any, rng: random.Random, width: float) -> Any:
    """Return another answer near a known one; any other choice, or a step on the number's scale."""
    if isinstance(question, ChoiceQuestion):
        others = [c for c in question.choices if c != value]
        return rng.choice(others) if others else value
    step = None if question.log else question.step
    if step is not None and question.high - question.low <= GRID_STEPS * step:
        return _near_on_grid(question, value, step, rng)
    scale, inverse = (math.log, math.exp) if question.log else (float, float)
    low, high = scale(question.low), scale(question.high)
    while True:  # the center is inside: at least one sample in three is too
        found = rng.gauss(scale(value), width * (high - low))
        number = min(max(inverse(found), question.low), question.high)
        number = round(number) if isinstance(question, IntQuestion) else number
        if low <= found <= high and number != value:
            return number


def _near_on_grid(question: Any, value: float, step: float, rng: random.Random) -> Any:
    here = round((value - question.low) / step)
    rooms = {-1: here, 1: round((question.high - question.low) / step) - here}
    direction = rng.choice([way for way, room in rooms.items() if room])
    jump = 1
    while rng.random() < LONGER_STEP:
        jump += 1
    there = here + direction * min(jump, rooms[direction])
    if isinstance(question, IntQuestion):
        return question.low + there * question.step
    return grid_point(question.low, step, there)
