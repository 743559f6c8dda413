"""Designs: decisions that a user gives, and those that follow from them.

A design leaves other decisions to a sampler. A path names the choices above it:
`recipe.optimizer.adamw.learning_rate` chooses `adamw`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from search_spaces.candidate import candidate_from_dict
from search_spaces.derivation import Space, decision_names
from search_spaces.domains.suggester import (
    BaseSuggester,
    ChoiceQuestion,
    IntQuestion,
    Question,
    RandomSuggester,
    ReplaySuggester,
    is_answer,
)
from search_spaces.errors import ArchscoutError, ExitCode
from search_spaces.plugins import did_you_mean
from search_spaces.space import SearchSpace

_COUNT = ".count"
"""End of the name that decides how many repeated parts there are; `.0`, `.1` are their names."""
_RUNS = 50
"""Random completions in which a given decision is looked for."""


class DesignError(ArchscoutError, ValueError):
    """A design does not fit its space; the message names the decision."""

    exit_code = ExitCode.INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Decisions of a candidate, as far as a user has made them.

    Examples:
        >>> design = Design(params={"recipe.optimizer": "adamw"}, base=trial.params)
        >>> fixed_decisions(space, design)
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    """Given decisions by path; all of them must apply."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """Decisions of a known candidate, used where they apply."""

    @classmethod
    def of_document(cls, space: Space, document: Mapping[str, Any]) -> Self:
        """Return the design of a JSON document.

        Args:
            space: The study's space.
            document: Decisions by path, a candidate of any space, or a document whose key `trial`
                has `params` and `candidate`, as `archscout status` prints it.

        Raises:
            CandidateError: The document is no candidate.
            DomainError: The space does not contain the candidate.
        """
        trial = document.get("trial")
        known = trial if isinstance(trial, dict) else {}
        candidate = known.get("candidate", document if "schema" in document else None)
        if candidate is None:
            return cls(params=document)
        if isinstance(space, SearchSpace):
            return cls(base=space.locate(candidate_from_dict(candidate), {}))
        return cls(base=known.get("params", candidate.get("decisions", {})))


def fixed_decisions(space: Space, design: Design) -> dict[str, Any]:
    """Return the decisions that lead a sampler to a design, by path.

    Raises:
        DesignError: A decision does not exist, does not apply with the others, or has no such
            value.
    """
    names = decision_names(space)
    if unknown := sorted(set(design.params) - names):
        hint = did_you_mean(unknown[0], names)
        raise DesignError(f"{unknown[0]}: space '{space.name}' has no such decision.{hint}")
    missing: set[str] = set()
    for seed in range(_RUNS):
        suggester = _DesignSuggester(design, seed)
        try:
            space.resolve(suggester)
        except ValueError as error:
            raise DesignError(str(error)) from error
        missing = set(design.params) - set(suggester.fixed)
        if not missing:
            return suggester.fixed
    text = "does not apply with the other decisions; give the choices that lead to it too"
    raise DesignError(f"{min(missing)}: {text}")


class _DesignSuggester(BaseSuggester):
    """Answers from a design, and at random for the decisions that it leaves open."""

    def __init__(self, design: Design, seed: int) -> None:
        self.fixed: dict[str, Any] = {}
        self._design = design
        self._given = ReplaySuggester(design.params)
        self._random = RandomSuggester(seed)

    def answer(self, name: str, question: Question) -> Any:
        if name in self._design.params:
            self.fixed[name] = question.ask(self._given, name)
        elif (implied := self._implied(name, question)) is not None:
            self.fixed[name] = implied
        elif name in self._design.base and is_answer(question, self._design.base[name]):
            self.fixed[name] = question.ask(ReplaySuggester(self._design.base), name)
        return self.fixed[name] if name in self.fixed else question.ask(self._random, name)

    def _implied(self, name: str, question: Question) -> Any:
        """Return the answer that the paths of given decisions name; None if they name none."""
        if isinstance(question, ChoiceQuestion):
            named = [c for c in question.choices if self._below(f"{name}.{c}.")]
            return named[0] if len(named) == 1 else None
        if isinstance(question, IntQuestion) and name.endswith(_COUNT):
            parts = self._below(name.removesuffix("count"))
            needed = max((int(part) for part in parts if part.isdecimal()), default=-1) + 1
            base = self._design.base.get(name, question.low)
            known: int = base if is_answer(question, base) else question.low
            return needed if known < needed <= question.high else None
        return None

    def _below(self, prefix: str) -> list[str]:
        """Return the next part of each given path that starts with a prefix."""
        given = (path for path in self._design.params if path.startswith(prefix))
        return [path[len(prefix) :].partition(".")[0] for path in given]
