"""Domains that change how decisions are named, not what is decided.

`search_spaces.domains.composite` is where to import them from.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from search_spaces.domains.ranges import Domain
from search_spaces.domains.suggester import Suggester

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared(Generic[T]):
    """One decision that is read in several places: it has a name of its own, wherever it stands."""

    name: str
    """Name of the parameter, from the root."""
    domain: Domain[T]
    """What is decided; the same wherever the name is used."""

    def resolve(self, suggester: Suggester, path: str) -> T:  # noqa: ARG002 - a Domain's signature
        """The value answered under the decision's own name."""
        return self.domain.resolve(suggester, self.name)

    def encode(self, value: Any, path: str) -> dict[str, Any]:  # noqa: ARG002
        """The answers under the decision's own name; what holds it checks that all places agree.

        Raises:
            DomainError: The value lies outside.
        """
        return self.domain.encode(value, self.name)

    def default(self) -> T:
        """The decision's default."""
        return self.domain.default()

    def size(self) -> float:
        """The decision's size."""
        return self.domain.size()

    def __contains__(self, value: object) -> bool:
        return value in self.domain


@dataclass(frozen=True, slots=True)
class Inline(Generic[T]):
    """A field whose decisions are named as if they were the record's own, without the field's name.

    A stage whose block is decided inline asks `stages.0` for the block's label and
    `stages.0.attention.heads` for what is within. Labels and other fields must not be namesakes.
    """

    domain: Domain[T]
    """What is decided."""

    def resolve(self, suggester: Suggester, path: str) -> T:
        """The value answered under the name of what holds the field."""
        return self.domain.resolve(suggester, path.rpartition(".")[0])

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """The answers under the name of what holds the field.

        Raises:
            DomainError: The value lies outside.
        """
        return self.domain.encode(value, path.rpartition(".")[0])

    def default(self) -> T:
        """The domain's default."""
        return self.domain.default()

    def size(self) -> float:
        """The domain's size."""
        return self.domain.size()

    def __contains__(self, value: object) -> bool:
        return value in self.domain
