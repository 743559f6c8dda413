"""LossWeights: what a network minimises: terms by name, mixed by weights on a simplex.

Knows names and numbers; the terms themselves are modules in `search_spaces.losses`. A user's own
term is registered by a decorator in the user's file:

    @loss_term("confidence", needs=("logits",), options={"floor": FloatRange(0.0, 0.5)})
    class Confidence(nn.Module):
        def __init__(self, *, floor: float) -> None: ...
        def forward(self, output: ModelOutput, batch: Batch) -> Tensor: ...

    losses = loss_domain(main=("cross_entropy",), side=("confidence",))
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar, get_args

from search_spaces.domains import Domain
from search_spaces.plugins import Registry

Need = Literal[
    "logits",
    "embedding",
    "auxiliary",
    "values",
    "towers",
    "gates",
    "labels",
    "view",
    "input_gradients",
    "teacher",
]
"""What a term reads: a part of the network's output; or the batch's classes alone, a second view
of it, the output's slopes along the inputs, or what a teacher gives."""
ALLOWED_FOR_MAIN: frozenset[Need] = frozenset({"logits", "embedding", "values", "towers", "labels"})
"""What there is on examples that nobody learns from: all that a main term may need."""
BalancerName = Literal[
    "fixed", "uncertainty", "dwa", "gradnorm", "mgda", "pcgrad", "imtl_g", "aligned_mtl"
]
"""How weights adapt in training; `fixed`: not at all."""
OWN_WEIGHTS = ("mgda", "imtl_g")
"""Balancers that find the weights from the gradients alone: what was decided has no say."""
C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class TermSpec:
    """A kind of loss term: how it is made and what can be decided about it."""

    name: str
    """The name by which candidates refer to it."""
    make: Callable[..., Any]
    """Makes the module from the options; its forward takes (ModelOutput, Batch)."""
    needs: frozenset[Need]
    """What it reads; the trainer builds auxiliary heads where needed."""
    options: Mapping[str, Domain[Any]]
    """The domain of each option."""


TERMS: Registry[TermSpec] = Registry("loss term")


def loss_term(
    name: str, *, needs: Iterable[Need], options: Mapping[str, Domain[Any]] | None = None
) -> Callable[[C], C]:
    """Register the class that follows as the loss term of this name.

    Raises:
        DuplicateNameError: The name is taken.
        ValueError: An option is called as a field that every term has.
    """
    if clash := {"name", "weight"} & set(options or {}):
        raise ValueError(f"loss term {name!r}: an option cannot be called {clash.pop()!r}")

    def register(make: C) -> C:
        spec = TermSpec(name=name, make=make, needs=frozenset(needs), options=options or {})
        TERMS.register(name, spec)
        return make

    return register


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerm:
    """One term of the loss."""

    weight: float = 1.0
    """How much it counts beside the others, zero or more; only the ratio of weights matters."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Its own settings, e.g. `{"smoothing": 0.1}`."""

    def __post_init__(self) -> None:
        """Refuse weights that no mixture has.

        Raises:
            ValueError: The weight is negative or not finite.
        """
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"a loss term's weight is finite and not negative, not {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """The loss of a candidate."""

    main: str = "cross_entropy"
    """Name of the term that is reported, unweighted, as the metric `loss`."""
    terms: Mapping[str, LossTerm] = field(default_factory=lambda: {"cross_entropy": LossTerm()})
    """All terms by name, with weights as decided; see `normalized_weights`."""
    balancer: BalancerName = "fixed"
    """How weights adapt in training."""

    def __post_init__(self) -> None:
        """Refuse mixtures without a main term.

        Raises:
            ValueError: The main term is missing or without weight, or the balancer is unknown.
        """
        if self.main not in self.terms or self.terms[self.main].weight == 0:
            raise ValueError(f"losses.main: {self.main!r} is no term with a weight above zero")
        if self.balancer not in get_args(BalancerName):
            allowed = ", ".join(get_args(BalancerName))
            raise ValueError(f"losses.balancer: {self.balancer!r} is none of {allowed}")

    def normalized_weights(self) -> dict[str, float]:
        """The terms that count, by name, with weights that sum to one."""
        counted = {name: term.weight for name, term in self.terms.items() if term.weight > 0}
        total = math.fsum(counted.values())
        return {name: weight / total for name, weight in counted.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data in the spelling of this value; `from_dict` undoes it."""
        terms = {name: {"weight": t.weight, **t.options} for name, t in self.terms.items()}
        return {"main": self.main, "terms": terms, "balancer": self.balancer}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The value that `to_dict` wrote; `main` may be left out where there is one term.

        Raises:
            KeyError: Terms or balancer are missing, or the main one of several is not said.
            ValueError: The mixture is impossible.
        """
        terms = {name: _term(**term) for name, term in data["terms"].items()}
        main = next(iter(terms)) if "main" not in data and len(terms) == 1 else data["main"]
        return cls(main=main, terms=terms, balancer=data["balancer"])

    def canonical(self) -> dict[str, Any]:
        """Plain data that is equal for equal losses: shares of the terms that count."""
        shares = self.normalized_weights()
        alone = len(shares) == 1
        terms = {
            # Twelve digits hold every difference that was meant, and none that division makes.
            name: {
                "weight": 1.0 if self.balancer in OWN_WEIGHTS else float(f"{share:.12g}"),
                **self.terms[name].options,
            }
            for name, share in shares.items()
        }
        balancer = "fixed" if alone else self.balancer
        return {"main": self.main, "terms": terms, "balancer": balancer}


def _term(*, weight: float, **options: float) -> LossTerm:
    return LossTerm(weight=weight, options=options)
