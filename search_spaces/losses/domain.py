"""Search spaces of losses."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from search_spaces.domains import Const, Domain, FloatRange, OneOf, Record, SpaceError, choice
from search_spaces.loss_terms import TERMS, BalancerName, LossTerm, LossWeights


def loss_domain(
    *,
    main: Sequence[str] = ("cross_entropy", "focal"),
    side: Sequence[str] = ("auxiliary", "supervised_contrastive"),
    always: Sequence[str] = (),
    balancers: Sequence[BalancerName] = ("fixed",),
) -> Domain[LossWeights]:
    """Return the domain of one main term, the first by default, with any of the side terms.

    Terms in `always` are never omitted, and their weights are decided too: for the further tasks of
    data with several targets. The first balancer is the default.

    The defaults have a weak prior: a side term, expected to be off, may double the training time.

    The weight of the main term is 1, those of the others are relative to it, so that each mixture
    has one encoding and is reproduced exactly.

    Raises:
        UnknownNameError: A term is not registered.
        SpaceError: A term is listed twice.
    """
    listed = [*main, *side, *always]
    if twice := {name for name in listed if listed.count(name) > 1}:
        raise SpaceError(f"loss terms {sorted(twice)} are listed twice, in main, side or always")
    relative = FloatRange(0.1, 2.0, step=0.1, initial=0.5)
    mains = {name: _term_domain(name, Const(1.0)) for name in main}
    sides: dict[str, Domain[Any]] = {name: _term_domain(name, relative) for name in always}
    for name in side:
        on_or_off: dict[str, Domain[Any]] = {"off": Const(None), "on": _term_domain(name, relative)}
        sides[name] = OneOf(on_or_off, prior="off", confidence="low")
    fields: dict[str, Domain[Any]] = {
        "main": OneOf(mains, prior=main[0], confidence="low"),
        **sides,
        "balancer": choice(*balancers, prior=balancers[0], confidence="low"),
    }
    return Record(_mixed, fields, take=_unmixed(sides))


def _term_domain(name: str, weight: Domain[float]) -> Domain[dict[str, Any]]:
    """Return the domain of a term as a flat mapping of name, weight and options."""
    return Record(dict, {"name": Const(name), "weight": weight, **TERMS[name].options})


def _mixed(
    *, main: Mapping[str, Any], balancer: BalancerName, **sides: Mapping[str, Any] | None
) -> LossWeights:
    chosen = [main, *(side for side in sides.values() if side is not None)]
    terms = {
        one["name"]: LossTerm(
            weight=one["weight"],
            options={key: value for key, value in one.items() if key not in ("name", "weight")},
        )
        for one in chosen
    }
    return LossWeights(main=main["name"], terms=terms, balancer=balancer)


def _unmixed(sides: Iterable[str]) -> Callable[[LossWeights], dict[str, Any]]:
    """Return the inverse of `_mixed` for these side terms."""

    def take(losses: LossWeights) -> dict[str, Any]:
        flat = {
            name: {"name": name, "weight": term.weight, **term.options}
            for name, term in losses.terms.items()
        }
        found = {name: flat.get(name) for name in sides}
        return {"main": flat[losses.main], "balancer": losses.balancer, **found}

    return take
