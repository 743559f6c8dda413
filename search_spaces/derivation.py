"""Derivation of a space from another one by edits, under a version of its own."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from search_spaces.domains import Const, Record
from search_spaces.domains.coverage import each_choice
from search_spaces.domains.edits import SpaceEdits
from search_spaces.domains.restriction import questions, restrict
from search_spaces.domains.suggester import Question, Suggester
from search_spaces.space import DefineByRunSpace, SearchSpace

Space = SearchSpace | DefineByRunSpace

MAX_RUNS = 400
"""Runs of a define-by-run function that show its decisions."""


def derive(space: Space, edits: SpaceEdits) -> Space:
    """Return the space with only the candidates that the edits allow.

    Its name is that of the base, its version that of the base and a digest of the edits. Without
    edits it is the base.

    Examples:
        >>> derive(load("hybrid"), SpaceEdits(fix={"recipe.optimizer": "adamw"})).version
        '1+101baeb0'

    Raises:
        SpaceEditError: An edit names no decision or no value of it, or leaves nothing.
    """
    if not edits:
        return space
    version = f"{space.version}+{edits.digest}"
    if isinstance(space, DefineByRunSpace):
        before = _asked(space)
        edits.check(before, space.name)
        derived = replace(space, version=version, edits=(*space.edits, edits))
        edits.check_effect(before, _asked(derived))
        return derived
    return _restricted(space, edits, version)


def decision_names(space: Space) -> frozenset[str]:
    """Return the names of all decisions; those of a function as far as a sample of runs asks."""
    return frozenset(decision_questions(space))


def decision_questions(space: Space) -> Mapping[str, Collection[Question]]:
    """Return the questions of all decisions; those of a function as far as sampled runs ask."""
    if isinstance(space, DefineByRunSpace):
        return _asked(space)
    return {name: (question,) for name, question in questions(space.candidates).items()}


def default_changes(base: Space, derived: Space) -> dict[str, tuple[Any, Any]]:
    """Return the decisions of the default that a derived space changes: before and after."""
    if isinstance(base, DefineByRunSpace) or isinstance(derived, DefineByRunSpace):
        return {}
    before = base.default_params()
    after = base.locate(derived.default(), {})
    return {
        name: (value, after[name])
        for name, value in before.items()
        if name in after and after[name] != value
    }


def _restricted(space: SearchSpace, edits: SpaceEdits, version: str) -> SearchSpace:
    asked = questions(space.candidates)
    edits.check(decision_questions(space), space.name)
    edited = {name for name in asked if any(edit.matches(name) for edit in edits)}
    candidates = restrict(
        space.candidates, {name: edits.restrict(name, asked[name]) for name in edited}
    )
    edits.check_effect(asked, questions(candidates))
    if isinstance(candidates, Record):
        fields = {**candidates.fields, "space_version": Const(version)}
        candidates = replace(candidates, fields=fields)
    return replace(space, version=version, candidates=candidates)


def _asked(space: DefineByRunSpace) -> Mapping[str, set[Question]]:
    """Return the questions that a function asks in a sample of runs, by name."""
    asked: dict[str, set[Question]] = defaultdict(set)

    def run(suggester: Suggester) -> Suggester:
        space.resolve(suggester)
        return suggester

    for suggester in each_choice(run, MAX_RUNS):
        for name, question in suggester.questions.items():  # type: ignore[attr-defined]
            asked[name].add(question)
    return asked
