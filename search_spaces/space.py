"""Search spaces: everything a study may try, under a name and a version.

A SearchSpace is a domain of candidates; a DefineByRunSpace is a plain Optuna function of the user.
Both are independent of the sampler.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import ConfigDict, Field, StrictStr
from pydantic.dataclasses import dataclass as checked_dataclass

from search_spaces.candidate import Candidate, Decisions
from search_spaces.domains import Const, Domain, DomainError, Record, SpaceError
from search_spaces.domains.edits import RestrictingSuggester, SpaceEdits
from search_spaces.domains.kinds import kinds
from search_spaces.domains.priors import Expected, priors
from search_spaces.domains.restriction import questions
from search_spaces.domains.structure import Part, decision_parts
from search_spaces.domains.suggester import (
    RecordingSuggester,
    ReplaySuggester,
    Suggester,
    SuggestionError,
    replay_error,
)
from search_spaces.loss_terms import LossWeights
from search_spaces.plugins import as_script
from search_spaces.recipe import Recipe, recipe_domain

if TYPE_CHECKING:
    from search_spaces.architecture import Architecture


@checked_dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Constraint:
    """An upper bound on a metric that is counted before training, checked when it is made.

    Examples:
        >>> Constraint(metric="parameters", at_most=2.0e6).violation(3.0e6)
        0.5
    """

    metric: StrictStr
    """Name of the metric, such as `parameters`."""
    at_most: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
    """The bound; meeting it exactly is feasible."""

    def violation(self, value: float) -> float:
        """Return the relative excess of a value over the bound; 0 or less is feasible."""
        return value / self.at_most - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """A named, versioned domain of candidates.

    Examples:
        >>> space = SearchSpace.of(name="mine", version="1", architecture=Const(network))
        >>> space.encode(space.default())
    """

    name: str
    """Name, such as `hybrid`."""
    version: str
    """Changes whenever equal parameters would give another candidate."""
    candidates: Domain[Candidate]
    """Domain of the candidates."""
    constraints: tuple[Constraint, ...] = ()
    """Constraints of the space, in addition to those of the study."""

    @classmethod
    def of(
        cls,
        *,
        name: str,
        version: str,
        architecture: "Domain[Architecture]",
        recipe: Domain[Recipe] | None = None,
        losses: Domain[LossWeights] | None = None,
        constraints: tuple[Constraint, ...] = (),
    ) -> Self:
        """Return the space of all combinations of these domains.

        Args:
            name: Name of the space.
            version: Version of the space.
            architecture: Domain of the networks.
            recipe: Domain of the training recipes; None for `recipe_domain()`.
            losses: Domain of the losses; None for `loss_domain()`.
            constraints: Constraints on every candidate.
        """
        from search_spaces.losses import loss_domain  # noqa: PLC0415 - loads torch

        candidates = Record(
            Candidate,
            {
                "architecture": architecture,
                "recipe": recipe_domain() if recipe is None else recipe,
                "losses": loss_domain() if losses is None else losses,
                "space_name": Const(name),
                "space_version": Const(version),
            },
        )
        return cls(name=name, version=version, candidates=candidates, constraints=constraints)

    def resolve(self, suggester: Suggester) -> Candidate:
        """Return the candidate for a suggester's answers."""
        return self.candidates.resolve(suggester, "")

    def encode(self, candidate: Candidate) -> dict[str, Any]:
        """Return the parameters of a candidate; the inverse of `resolve`.

        Raises:
            DomainError: The space does not contain the candidate.
        """
        return self.candidates.encode(candidate, "")

    def encode_network(self, architecture: "Architecture") -> dict[str, Any]:
        """Return the parameters of a network with the default recipe and losses.

        Raises:
            DomainError: The space does not contain the network.
        """
        return self.encode(replace(self.default(), architecture=architecture))

    def locate(self, candidate: Candidate | Decisions, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters in this space of a trial of another version of it.

        Args:
            candidate: The trial's candidate.
            params: The trial's parameters, which the reason names.

        Raises:
            DomainError: This space does not contain the candidate; the message gives the reason.
        """
        if not isinstance(candidate, Candidate):
            raise DomainError(f"space '{self.name}' contains networks, no plain decisions")
        try:
            return self.encode(replace(candidate, space_name=self.name, space_version=self.version))
        except DomainError as error:
            for name, question in questions(self.candidates).items():
                if name in params and (reason := replay_error(name, question, params[name])):
                    raise DomainError(reason) from error
            raise

    def default(self) -> Candidate:
        """Return the candidate that every study tries first."""
        return self.candidates.default()

    def default_params(self) -> dict[str, Any]:
        """Return the parameters of the default."""
        return self.encode(self.default())

    def expected(self) -> dict[str, Expected]:
        """Return the domains of the decisions that have a prior, by name."""
        return dict(priors(self.candidates))

    def parts(self) -> dict[str, Part]:
        """Return the part of the space that depends on each decision, by the decision's name."""
        return decision_parts(self.candidates)

    def kinds(self) -> list[dict[str, Any]]:
        """Return the parameters of the default with one structural decision changed, each once.

        Such as the default with attention in all its stages, or with another fusion.
        """
        if not isinstance(self.candidates, Record):
            return []
        network = self.candidates.fields["architecture"]
        found: list[dict[str, Any]] = []
        for answers in kinds(network, "architecture", self.default_params()):
            params = self.encode(self.resolve(ReplaySuggester(answers)))
            if params not in found:
                found.append(params)
        return found

    def size(self) -> float:
        """Return the number of candidates; infinite where a decision is continuous."""
        return self.candidates.size()

    def describe_size(self) -> str:
        """Return the number of candidates in words."""
        count = self.size()
        if math.isinf(count):
            return "infinitely many candidates (some decisions are continuous)"
        return f"{count:,.0f} candidates" if count < 1e6 else f"{count:.1e} candidates"

    def __contains__(self, candidate: object) -> bool:
        return candidate in self.candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class DefineByRunSpace:
    """A user's function of an Optuna trial, or of anything with the same `suggest_*` methods.

    Its questions are known only by running it, so it has no `encode`, no size and no default, and a
    value does not lead back to parameters.
    """

    name: str
    """Name, such as that of the function."""
    version: str
    """Changes with the function, such as the digest of its file."""
    function: Callable[[Any], Mapping[str, Any] | None]
    """Takes a trial with the three `suggest_*` methods; returns the decisions by name, or None for
    all of its answers."""
    edits: tuple[SpaceEdits, ...] = ()
    """Edits of the function's decisions, in the order in which they were made."""

    def resolve(self, suggester: Suggester) -> Decisions:
        """Return the decisions for a suggester's answers.

        Raises:
            SpaceError: The function returns something else than a plain JSON object, or exits.
            SpaceEditError: The edits allow no answer to a question.
        """
        for edits in reversed(self.edits):
            suggester = RestrictingSuggester(suggester, edits)
        asking = RecordingSuggester(suggester)
        code = getattr(self.function, "__code__", None)
        try:
            with as_script(self.name if code is None else code.co_filename):
                given = self.function(asking)
        except SystemExit as error:
            raise SpaceError(f"{self.name}: ends the program (SystemExit: {error})") from error
        decisions = asking.params if given is None else given
        if not isinstance(decisions, Mapping):
            raise SpaceError(f"{self.name}: must return a dict or None, not {decisions!r}")
        try:
            if json.loads(json.dumps(decisions, allow_nan=False)) != decisions:
                raise ValueError("it changes when it is written and read back")
        except (TypeError, ValueError) as error:
            raise SpaceError(
                f"{self.name}: decisions must be plain JSON data (no tuples, string keys): {error}"
            ) from error
        return Decisions(decisions=dict(decisions))

    def locate(self, candidate: Candidate | Decisions, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters in this space of a trial of another version of it.

        Args:
            candidate: The trial's candidate.
            params: The trial's parameters.

        Raises:
            DomainError: This space does not contain the candidate; the message gives the reason.
        """
        replay = ReplaySuggester(params)
        try:
            decisions = self.resolve(replay)
        except (SuggestionError, SpaceError) as error:
            raise DomainError(str(error)) from error
        if unused := replay.unused():
            raise DomainError(f"{unused[0]}: the space has no such decision")
        if decisions != candidate:
            raise DomainError(f"the parameters lead to other decisions: {decisions.describe()}")
        return dict(params)

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """No constraints."""
        return ()

    def encode_network(self, architecture: "Architecture") -> dict[str, Any]:  # noqa: ARG002
        """Refuse; a function's networks are unknown.

        Raises:
            SpaceError: Always.
        """
        raise SpaceError(f"space '{self.name}' contains no networks; give parameters")

    def expected(self) -> dict[str, Expected]:
        """Return nothing; a function's decisions have no priors."""
        return {}

    def parts(self) -> dict[str, Part]:
        """Return nothing; any answer may change what a function asks."""
        return {}

    def kinds(self) -> list[dict[str, Any]]:
        """Return nothing; a function's decisions are known only by running it."""
        return []

    def default(self) -> None:
        """Return None; a function has no default candidate."""
        return

    def default_params(self) -> None:
        """Return None; the first trial is sampled like any other."""
        return

    def size(self) -> float:
        """Return infinity; the number of decisions is known only by running the function."""
        return math.inf

    def describe_size(self) -> str:
        """Return the reason why there is no number."""
        return "known only by running it"
