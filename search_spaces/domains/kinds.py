"""Kinds: the structural alternatives of a default, such as blocks of another kind in all stages.

A structural decision is a `OneOf` whose branches are not plain values: blocks, streams, fusions or
whole networks.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search_spaces.domains.composite import OneOf, Record, Repeat
from search_spaces.domains.naming import Inline
from search_spaces.domains.ranges import Domain, join, same

Params = Mapping[str, Any]
Places = Sequence[tuple[str, OneOf[Any]]]
"""A structural decision at all its places, by name."""


def kinds(domain: Domain[Any], path: str, default: Params) -> Iterator[Params]:
    """Yield the default's answers with one structural decision changed, kind by kind.

    Inside a `Repeat`, all items get the same kind, those of the default that have it already keep
    theirs. What the new kind decides is its own default; everything else stays. Decisions inside a
    kind are followed for streams and networks, not for the blocks of a `Repeat`.

    Args:
        domain: Domain of the default.
        path: Path of the domain.
        default: Answers that lead to the default.

    Yields:
        Answers by name. They include the default's, of which some are inactive.
    """
    if isinstance(domain, Inline):
        yield from kinds(domain.domain, path.rpartition(".")[0], default)
    elif isinstance(domain, Record):
        for name, field in domain.fields.items():
            yield from kinds(field, join(path, name), default)
    elif isinstance(domain, Repeat):
        yield from _item_kinds(domain, path, default)
    elif isinstance(domain, OneOf) and _is_structural(domain):
        for label, branch in domain.branches.items():
            variant = _choose(((path, domain),), label, default)
            if variant != default:
                yield variant
            yield from kinds(branch, join(path, label), variant)


def _item_kinds(repeat: Repeat[Any], path: str, default: Params) -> Iterator[Params]:
    """Yield the answers with items of one kind, for each kind."""
    count = default.get(join(path, "count"), repeat.low)
    places: dict[str, list[tuple[str, OneOf[Any]]]] = {}
    for index in range(count):
        item = join(path, index)
        for name, decision in _decisions(repeat.item_at(index), item):
            places.setdefault(name.removeprefix(item), []).append((name, decision))
    for same_part in places.values():
        labels = dict.fromkeys(label for _, decision in same_part for label in decision.branches)
        for label in labels:
            variant = _choose(same_part, label, default)
            if variant != default:
                yield variant


def _decisions(domain: Domain[Any], path: str) -> Iterator[tuple[str, OneOf[Any]]]:
    """Yield the structural decisions of an item by name, without those inside a kind."""
    if isinstance(domain, Inline):
        yield from _decisions(domain.domain, path.rpartition(".")[0])
    elif isinstance(domain, Record):
        for name, field in domain.fields.items():
            yield from _decisions(field, join(path, name))
    elif isinstance(domain, OneOf) and _is_structural(domain):
        yield path, domain


def _choose(places: Places, label: Any, default: Params) -> Params:
    """Return the answers with this label at all places that offer it."""
    answers = dict(default)
    for path, domain in places:
        if len(domain.branches) == 1 or label not in domain.branches:
            continue
        if same(answers.get(path), label):
            continue
        branch = domain.branches[label]
        # A shared decision keeps the default's answer.
        answers = {**branch.encode(branch.default(), join(path, label)), **answers, path: label}
    return answers


def _is_structural(domain: OneOf[Any]) -> bool:
    """Return whether the branches of a decision are more than plain values."""
    plain = (str, int, float, bool, type(None))
    return not any(isinstance(branch.default(), plain) for branch in domain.branches.values())
