"""Structure of a domain: the domains inside it, and the decisions that no other depends on."""

from collections.abc import Iterator
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
        yield from ((domain.item, join(path, index)) for index in range(domain.high))
    elif isinstance(domain, Record):
        yield from ((field, join(path, name)) for name, field in domain.fields.items())
    elif isinstance(domain, Shared):
        yield domain.domain, domain.name
    elif isinstance(domain, Inline):
        yield domain.domain, path.rpartition(".")[0]


def independent_decisions(domain: Domain[Any], path: str = "") -> Iterator[str]:
    """Yield the names of decisions whose answers change no other question.

    Those of unknown kinds of domains are left out.
    """
    inner = list(parts(domain, path))
    if isinstance(domain, IntRange | FloatRange) or (
        isinstance(domain, OneOf) and not any(_asks(part) for part, _ in inner)
    ):
        yield path
    for part, name in inner[1:] if isinstance(domain, Repeat) else inner:  # without the length
        yield from independent_decisions(part, name)


def _asks(domain: Domain[Any]) -> bool:
    """Return whether a domain may ask for a decision; unknown kinds of domains may."""
    if isinstance(domain, OneOf) and len(domain.branches) > 1:
        return True
    if isinstance(domain, OneOf | Repeat | Record | Shared | Inline):
        return any(_asks(part) for part, _ in parts(domain, ""))
    return not isinstance(domain, Const)
