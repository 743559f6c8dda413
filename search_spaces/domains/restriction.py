"""Restriction of a domain to fewer answers, with its defaults and priors kept inside."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from search_spaces.domains.composite import OneOf, Record, Repeat
from search_spaces.domains.naming import Inline, Shared
from search_spaces.domains.ranges import Domain, FloatRange, IntRange
from search_spaces.domains.structure import parts
from search_spaces.domains.suggester import (
    BaseSuggester,
    ChoiceQuestion,
    FloatQuestion,
    IntQuestion,
    Question,
    grid_point,
    is_answer,
)

Restrictions = Mapping[str, Question]
"""Questions with only the allowed answers, by the decision's name."""


def questions(domain: Domain[Any], path: str = "") -> dict[str, Question]:
    """Return the questions of all decisions of a domain by name, fixed ones included."""
    return {name: _question(leaf) for name, leaf in _decisions(domain, path)}


def restrict(domain: Domain[Any], restrictions: Restrictions, path: str = "") -> Domain[Any]:
    """Return the domain with only the allowed answers.

    Removed values in a default are replaced by the nearest allowed ones, priors move into their
    range; a removed choice is no prior any more.

    Args:
        domain: The base domain.
        restrictions: Restricted questions, of which each is a part of the decision's own.
        path: Path of the domain.
    """
    inner = [(restrict(part, restrictions, name), part) for part, name in parts(domain, path)]
    if path not in restrictions and all(new is old for new, old in inner):
        return domain
    restricted = [new for new, _ in inner]
    result = domain  # another kind of domain, whose decisions are unknown
    match domain:
        case IntRange() | FloatRange():
            result = _range(domain, restrictions[path])
        case OneOf():
            result = _one_of(domain, restricted, restrictions.get(path))
        case Repeat():
            result = _repeat(domain, restricted, path)
        case Record(fields=fields):
            result = replace(domain, fields=dict(zip(fields, restricted, strict=True)))
        case Shared() | Inline():
            result = replace(domain, domain=restricted[0])
    return result


class NearestSuggester(BaseSuggester):
    """Answers as near as possible to other answers, and by defaults where none is near."""

    def __init__(self, answers: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._answers = answers
        self._defaults = defaults

    def answer(self, name: str, question: Question) -> Any:
        """Return the nearest answer, else the default."""
        default = self._defaults[name]
        return _nearest(question, self._answers.get(name, default), default)


def _nearest(question: Question, value: Any, default: Any) -> Any:
    """Return the allowed answer nearest to a value, else a default.

    Choices are near each other if all are numbers; of equally near ones, the lower is taken.
    """
    if is_answer(question, value):
        return value
    options = question.choices if isinstance(question, ChoiceQuestion) else (question.low,)
    if not all(type(each) in (int, float) for each in (value, *options)):
        return default
    if isinstance(question, ChoiceQuestion):
        return min(options, key=lambda choice: (abs(choice - value), choice))
    clipped = min(max(value, question.low), question.high)
    if question.step is None or clipped in (question.low, question.high):
        return clipped
    steps = round((clipped - question.low) / question.step)
    if isinstance(question, IntQuestion):
        return question.low + steps * question.step
    return grid_point(question.low, question.step, steps)


def _decisions(domain: Domain[Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the ranges and choices of a domain by name, in order."""
    if isinstance(domain, IntRange | FloatRange | OneOf):
        yield path, domain
    for part, name in parts(domain, path):
        yield from _decisions(part, name)


def _question(leaf: IntRange | FloatRange | OneOf[Any]) -> Question:
    match leaf:
        case OneOf(branches=branches):
            return ChoiceQuestion(tuple(branches))
        case IntRange(low=low, high=high, step=step, log=log):
            return IntQuestion(low, high, step, log)
        case FloatRange(low=first, high=last, step=width, log=logarithmic):
            return FloatQuestion(first, last, width, logarithmic)


def _default_answer(leaf: IntRange | FloatRange | OneOf[Any]) -> Any:
    if isinstance(leaf, OneOf):
        declared = [label for label in (leaf.initial, leaf.prior) if label is not None]
        return [*declared, *leaf.branches][0]
    return leaf.default()


def _range(domain: IntRange | FloatRange, question: Any) -> IntRange | FloatRange:
    ends = {"low": question.low, "high": question.high}
    expected = {"initial": domain.initial, "prior": domain.prior}
    moved = {
        name: _nearest(question, value, None)
        for name, value in expected.items()
        if value is not None
    }
    return replace(domain, **ends, **moved)


def _one_of(
    domain: OneOf[Any], branches: list[Domain[Any]], question: Question | None
) -> OneOf[Any]:
    """Return the choice of the allowed branches."""
    restricted = dict(zip(domain.branches, branches, strict=True))
    if not isinstance(question, ChoiceQuestion):
        return replace(domain, branches=restricted)
    default = _default_answer(domain)
    kept = default in question.choices
    return replace(
        domain,
        branches={label: restricted[label] for label in question.choices},
        initial=domain.initial if kept else _nearest(question, default, None),
        prior=domain.prior if domain.prior in question.choices else None,
    )


def _repeat(domain: Repeat[Any], restricted: list[Any], path: str) -> Repeat[Any]:
    """Return the list with restricted lengths and items; equal items share one domain."""
    counts, *items = restricted
    items = items[: counts.high]
    others = {index: item for index, item in enumerate(items) if item != items[0]}
    bare = replace(
        domain,
        item=items[0] if items else domain.item,
        items=others,
        low=counts.low,
        high=counts.high,
        prior=counts.prior,
        initial=None,
    )
    if domain.initial is None:
        return bare
    defaults = {name: _default_answer(leaf) for name, leaf in _decisions(bare, path)}
    answers = domain.encode(domain.initial, path)
    return replace(bare, initial=bare.resolve(NearestSuggester(answers, defaults), path))
