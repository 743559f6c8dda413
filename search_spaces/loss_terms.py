"""Registry of loss terms, and the weights of a candidate's loss.

Does not load torch; the terms themselves are modules in `search_spaces.losses`. A term of your own
is registered by a decorator in your file:

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
"""Input of a term: a field of the network's output, the class labels, a second view of the batch,
the gradient with respect to the inputs, or a teacher's output."""
ALLOWED_FOR_MAIN: frozenset[Need] = frozenset({"logits", "embedding", "values", "towers", "labels"})
"""Inputs available at validation time: all that a main term may need."""
BalancerName = Literal[
    "fixed", "uncertainty", "dwa", "gradnorm", "mgda", "pcgrad", "imtl_g", "aligned_mtl"
]
"""Adaptation of the weights during training; `fixed`: none."""
OWN_WEIGHTS = ("mgda", "imtl_g")
"""Balancers that compute the weights from the gradients and ignore the decided ones."""
C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class TermSpec:
    """A registered kind of loss term."""

    name: str
    """Name by which candidates refer to it."""
    make: Callable[..., Any]
    """Makes the module from the options; its forward takes (ModelOutput, Batch)."""
    needs: frozenset[Need]
    """Inputs of the term; the trainer adds auxiliary heads if needed."""
    options: Mapping[str, Domain[Any]]
    """Domain of each option."""


TERMS: Registry[TermSpec] = Registry("loss term")


def loss_term(
    name: str, *, needs: Iterable[Need], options: Mapping[str, Domain[Any]] | None = None
) -> Callable[[C], C]:
    """Register a class as the loss term of this name; a decorator.

    Args:
        name: Name of the term.
        needs: Inputs of the term; see `Need`.
        options: Domain of each keyword argument of the class.

    Raises:
        DuplicateNameError: The name is taken.
        ValueError: An option has the name of a field that every term has.
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
    """Weight relative to the other terms, 0 or more."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Options of the term, such as `{"smoothing": 0.1}`."""

    def __post_init__(self) -> None:
        """Reject impossible weights.

        Raises:
            ValueError: The weight is negative or not finite.
        """
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"a loss term's weight is finite and not negative, not {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """The loss of a candidate: weighted terms and a balancer."""

    main: str = "cross_entropy"
    """Name of the term that is reported, unweighted, as the metric `loss`."""
    terms: Mapping[str, LossTerm] = field(default_factory=lambda: {"cross_entropy": LossTerm()})
    """All terms by name, with weights as decided; see `normalized_weights`."""
    balancer: BalancerName = "fixed"
    """Adaptation of the weights during training."""

    def __post_init__(self) -> None:
        """Reject mixtures without a main term.

        Raises:
            ValueError: The main term is missing or has weight 0, or the balancer is unknown.
        """
        if self.main not in self.terms or self.terms[self.main].weight == 0:
            raise ValueError(f"losses.main: {self.main!r} is not a term with a weight above zero")
        if self.balancer not in get_args(BalancerName):
            allowed = ", ".join(get_args(BalancerName))
            raise ValueError(f"losses.balancer: {self.balancer!r} is none of {allowed}")

    def normalized_weights(self) -> dict[str, float]:
        """Return the terms with positive weight, by name, with weights that sum to one."""
        counted = {name: term.weight for name, term in self.terms.items() if term.weight > 0}
        total = math.fsum(counted.values())
        return {name: weight / total for name, weight in counted.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data in the encoding of this value, for `from_dict`."""
        terms = {name: {"weight": t.weight, **t.options} for name, t in self.terms.items()}
        return {"main": self.main, "terms": terms, "balancer": self.balancer}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the value from the data of `to_dict`; `main` is optional if there is one term.

        Raises:
            KeyError: Terms or balancer are missing, or `main` is missing with several terms.
            ValueError: The mixture is impossible.
        """
        terms = {name: _term(**term) for name, term in data["terms"].items()}
        main = next(iter(terms)) if "main" not in data and len(terms) == 1 else data["main"]
        return cls(main=main, terms=terms, balancer=data["balancer"])

    def canonical(self) -> dict[str, Any]:
        """Return plain data that is equal for equal losses, with normalized weights."""
        shares = self.normalized_weights()
        alone = len(shares) == 1
        terms = {
            # Twelve digits keep every intended difference, and drop rounding errors.
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
