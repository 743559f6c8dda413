"""Candidates: points of a search space, each an architecture, a training recipe and loss weights.

Loads torch only to read an architecture and to count its costs.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Self

from search_spaces.errors import ArchscoutError
from search_spaces.loss_terms import LossWeights
from search_spaces.recipe import Recipe
from search_spaces.task import Shape, Task

if TYPE_CHECKING:
    from search_spaces.architecture import Architecture

SCHEMA = 1
"""Version of the JSON form."""


class CandidateError(ArchscoutError, ValueError):
    """A candidate's JSON form cannot be read; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Architecture, recipe and losses of a trial, in the encoding in which they were decided."""

    architecture: "Architecture"
    """The network."""
    recipe: Recipe = field(default_factory=Recipe)
    """Training settings."""
    losses: LossWeights = field(default_factory=LossWeights)
    """Minimized loss."""
    space_name: str
    """Name of the search space it was sampled from."""
    space_version: str
    """Version of that space."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form: equal for candidates that train the same network.

        The space does not count, nor the scale of the loss weights or the type of equal numbers.
        """
        return _digest(
            {
                "architecture": self.architecture.to_dict(),
                "recipe": self.recipe.to_dict(),
                "losses": self.losses.canonical(),
            }
        )

    def network_digest(self, task: Task) -> str:
        """Return the digest that all candidates share which train the same network on the task.

        It is the plain digest where every option of the architecture has an effect.

        Raises:
            UnbuildableError: The network does not fit the task.
        """
        from search_spaces.canonical import canonical  # noqa: PLC0415 - loads torch

        return replace(self, architecture=canonical(self.architecture, task)).digest

    def cost(self, task: Task) -> dict[str, float]:
        """Return `parameters`, `flops` and `activation_bytes` of the network on the task.

        Raises:
            UnbuildableError: The network does not fit the task.
        """
        from search_spaces.cost import cost  # noqa: PLC0415 - loads torch

        counted = asdict(cost(self.architecture, task))
        return {metric: float(value) for metric, value in counted.items()}

    def shapes(self, task: Task) -> dict[str, Shape]:
        """Return the output shape of each part of the network on the task, by the part's name.

        Raises:
            UnbuildableError: The network does not fit the task.
        """
        return self.architecture.walk(task)

    def describe(self) -> str:
        """Return the network in one line, such as `C32-C64-T64x2 gate`."""
        return self.architecture.describe()

    def _repr_html_(self) -> str:
        return _html(self.describe(), self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict`."""
        return {
            "schema": SCHEMA,
            "space": {"name": self.space_name, "version": self.space_version},
            "architecture": self.architecture.to_dict(),
            "recipe": self.recipe.to_dict(),
            "losses": self.losses.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the candidate from the data of `to_dict`.

        Raises:
            CandidateError: It has another schema, or a field is missing or impossible.
        """
        from search_spaces.architecture import Architecture  # noqa: PLC0415 - loads torch

        _check_schema(data)
        try:
            return cls(
                architecture=Architecture.from_dict(data["architecture"]),
                recipe=Recipe.from_dict(data["recipe"]),
                losses=LossWeights.from_dict(data["losses"]),
                space_name=data["space"]["name"],
                space_version=data["space"]["version"],
            )
        except KeyError as error:
            raise CandidateError(f"candidate: {error.args[0]!r} is missing") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise CandidateError(f"candidate: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """The decisions of a plain define-by-run function; only the user's code knows their meaning."""

    decisions: Mapping[str, Any]
    """Decisions by name: plain JSON data."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form."""
        return _digest({"decisions": self.decisions})

    def network_digest(self, task: Task) -> str:  # noqa: ARG002 - as Candidate's
        """Return the digest; the user's network is unknown."""
        return self.digest

    def cost(self, task: Task) -> dict[str, float]:  # noqa: ARG002 - as Candidate's
        """Return no costs; the user's network is unknown."""
        return {}

    def shapes(self, task: Task) -> dict[str, Shape]:  # noqa: ARG002 - as Candidate's
        """Return no shapes; a user's network is unknown."""
        return {}

    def describe(self) -> str:
        """Return the decisions in one line of at most 80 characters."""
        shown = (f"{name}={_short(value)}" for name, value in self.decisions.items())
        line = " ".join(shown)
        return line if len(line) <= 80 else f"{line[:77]}..."

    def _repr_html_(self) -> str:
        return _html(self.describe(), self.decisions)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict`."""
        return {"schema": SCHEMA, "decisions": dict(self.decisions)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the decisions from the data of `to_dict`.

        Raises:
            CandidateError: It has another schema, or no decisions.
        """
        _check_schema(data)
        if not isinstance(data.get("decisions"), Mapping):
            raise CandidateError("candidate: 'decisions' is missing")
        return cls(decisions=data["decisions"])


def candidate_from_dict(data: Mapping[str, Any]) -> Candidate | Decisions:
    """Return the candidate of either kind from its plain data.

    Raises:
        CandidateError: It cannot be read.
    """
    return Decisions.from_dict(data) if "decisions" in data else Candidate.from_dict(data)


def _check_schema(data: Mapping[str, Any]) -> None:
    schema = data.get("schema")
    if schema != SCHEMA:
        raise CandidateError(f"candidate: schema {schema!r} cannot be read, only {SCHEMA}")


def _digest(data: Any) -> str:
    canonical = json.dumps(_canonical(data), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Return the value with equal numbers in one form: 64.0 becomes 64."""
    if isinstance(value, Mapping):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _html(title: str, tree: Mapping[str, Any]) -> str:
    """Return plain data as an HTML table for notebooks, one row a value."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(path)}</th>"
        f"<td style='text-align:left'>{escape(_short(value))}</td></tr>"
        for path, value in _leaves(tree)
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{rows}</tbody></table>"


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested data with their dotted paths."""
    if isinstance(tree, Mapping):
        children: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, list | tuple):
        children = enumerate(tree)
    else:
        yield path, tree
        return
    for name, child in children:
        yield from _leaves(child, f"{path}.{name}" if path else str(name))
