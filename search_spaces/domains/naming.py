"""Domains that change the names of decisions: Shared and Inline."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from search_spaces.domains.census import Census, census_of
from search_spaces.domains.ranges import Domain
from search_spaces.domains.suggester import Suggester

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared(Generic[T]):
    """One decision that several places read, under a name of its own."""

    name: str
    """Name of the parameter, from the root."""
    domain: Domain[T]
    """Domain of the decision; the same wherever the name is used."""

    def resolve(self, suggester: Suggester, path: str) -> T:  # noqa: ARG002 - a Domain's signature
        """Return the answer for the decision's own name."""
        return self.domain.resolve(suggester, self.name)

    def encode(self, value: Any, path: str) -> dict[str, Any]:  # noqa: ARG002
        """Return the answers for the decision's own name; the caller checks that all places agree.

        Raises:
            DomainError: The value is outside.
        """
        return self.domain.encode(value, self.name)

    def default(self) -> T:
        """Return the domain's default."""
        return self.domain.default()

    def size(self) -> float:
        """Return the domain's size."""
        return self.domain.size()

    def census(self, shared: dict[str, float]) -> Census:
        """Return one value that reads this decision, whose size is added to `shared`."""
        shared[self.name] = self.domain.size()
        return {frozenset([self.name]): 1}

    def __contains__(self, value: object) -> bool:
        return value in self.domain


@dataclass(frozen=True, slots=True)
class Inline(Generic[T]):
    """A field whose decisions are named like the record's own, without the field's name.

    A stage with an inline block asks `stages.0` for the block's label and
    `stages.0.attention.heads` for a decision inside. Labels must differ from the names of other
    fields.
    """

    domain: Domain[T]
    """Domain of the field."""

    def resolve(self, suggester: Suggester, path: str) -> T:
        """Return the answer for the record's name."""
        return self.domain.resolve(suggester, path.rpartition(".")[0])

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """Return the answers for the record's name.

        Raises:
            DomainError: The value is outside.
        """
        return self.domain.encode(value, path.rpartition(".")[0])

    def default(self) -> T:
        """Return the domain's default."""
        return self.domain.default()

    def size(self) -> float:
        """Return the domain's size."""
        return self.domain.size()

    def census(self, shared: dict[str, float]) -> Census:
        """Return the domain's census."""
        return census_of(self.domain, shared)

    def __contains__(self, value: object) -> bool:
        return value in self.domain
