"""Domains: values that describe which decisions make up a search space, and how they compose."""

from search_spaces.domains.composite import Label, OneOf, Record, Repeat, choice
from search_spaces.domains.naming import Inline, Shared
from search_spaces.domains.ranges import (
    Confidence,
    Const,
    Domain,
    DomainError,
    FloatRange,
    IntRange,
    SpaceError,
    join,
)

__all__ = [
    "Confidence",
    "Const",
    "Domain",
    "DomainError",
    "FloatRange",
    "Inline",
    "IntRange",
    "Label",
    "OneOf",
    "Record",
    "Repeat",
    "Shared",
    "SpaceError",
    "choice",
    "join",
]
