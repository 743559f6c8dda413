"""Structure of a domain: the domains inside it, and what depends on each decision."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.domains.composite import OneOf, Record, Repeat
from search_spaces.domains.naming import Inline, Shared
from search_spaces.domains.ranges import Const, Domain, FloatRange, IntRange, join


def parts(domain: Domain[Any], path: str) -> Iterator[tuple[Domain[Any], str]]:
    """Yield the inner domains of a composite one, each with its name."""
    if isinstance(domain, OneOf):
        yield from ((branch, join(path, label)) for label, branch in domain.branches.items())
    elif isinstance(domain, Repeat):
        yield domain.counts, join(path, "count")
        yield from ((domain.item_at(index), join(path, index)) for index in range(domain.high))
    elif isinstance(domain, Record):
        yield from ((field, join(path, name)) for name, field in domain.fields.items())
    elif isinstance(domain, Shared):
        yield domain.domain, domain.name
    elif isinstance(domain, Inline):
        yield domain.domain, path.rpartition(".")[0]


Condition = tuple[str, frozenset[Any]]
"""Name of a decision, and its answers with which something is asked."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a space whose questions depend on one decision: no other question does.

    Shared decisions inside are asked as long as any of their conditions is met.
    """

    domain: Domain[Any]
    """Asks for the decision and all that depends on it."""
    path: str
    """Its name; without `.count` for the length of a repeated part."""
    opens: bool
    """True if its answer decides what else is asked."""
    conditions: tuple[Condition, ...] = ()
    """Conditions of a shared decision; none if it is always asked."""

    def below(self, answer: Any) -> tuple[str, ...]:
        """Return the beginnings of names that are asked because of an answer to the decision."""
        if not self.opens:
            return ()
        inside = range(answer) if isinstance(self.domain, Repeat) else (answer,)
        return tuple(join(self.path, f"{name}.") for name in inside)


def decision_parts(domain: Domain[Any]) -> dict[str, Part]:
    """Return the part of a domain that depends on each decision, by its name.

    Left out are decisions on which others in domains of unknown kinds may depend.
    """
    shared: dict[str, list[Condition | None]] = {}
    found = dict(_decision_parts(domain, "", None, shared))
    for name, conditions in shared.items():
        if None not in conditions and name in found:
            found[name] = replace(found[name], conditions=tuple(filter(None, conditions)))
    return found


def _decision_parts(
    domain: Domain[Any],
    path: str,
    condition: Condition | None,
    shared: dict[str, list[Condition | None]],
) -> Iterator[tuple[str, Part]]:
    inner = list(parts(domain, path))
    if isinstance(domain, Shared):
        shared.setdefault(domain.name, []).append(condition)
    elif isinstance(domain, IntRange | FloatRange):
        yield path, Part(domain, path, opens=False)
    elif isinstance(domain, OneOf | Repeat) and all(_is_closed(part) for part, _ in inner):
        name = inner[0][1] if isinstance(domain, Repeat) else path
        yield name, Part(domain, path, opens=_opens(domain))
    conditions = _conditions(domain, path)
    for part, name in inner[1:] if isinstance(domain, Repeat) else inner:  # without the length
        yield from _decision_parts(part, name, next(conditions, condition), shared)


def _conditions(domain: Domain[Any], path: str) -> Iterator[Condition]:
    """Yield the condition of each inner domain, if it has one of its own."""
    if isinstance(domain, OneOf) and len(domain.branches) > 1:
        yield from ((path, frozenset([label])) for label in domain.branches)
    elif isinstance(domain, Repeat) and domain.low < domain.high:
        lengths = range(domain.low, domain.high + 1)
        for index in range(domain.high):
            yield join(path, "count"), frozenset(lengths[max(0, index + 1 - domain.low) :])


def _is_closed(domain: Domain[Any]) -> bool:
    """Return whether a domain's decisions are known and named below it, shared numbers aside."""
    if isinstance(domain, OneOf | Repeat | Record | Inline):
        return all(_is_closed(part) for part, _ in parts(domain, ""))
    if isinstance(domain, Shared):
        return not _opens(domain.domain)
    return isinstance(domain, Const | IntRange | FloatRange)


def _opens(domain: Domain[Any]) -> bool:
    """Return whether a decision of a domain may open others; unknown kinds of domains may."""
    if isinstance(domain, OneOf):
        return not all(isinstance(branch, Const) for branch in domain.branches.values())
    return not isinstance(domain, Const | IntRange | FloatRange)
