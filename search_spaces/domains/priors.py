"""Priors: what whoever wrote a space expects of single decisions, and draws that follow it.

A prior is an expectation, no limit: every value of the domain stays possible. Knows domains, and
not how far a sampler trusts them.
"""

import math
from collections.abc import Iterator
from random import Random
from typing import Any

from search_spaces.domains.composite import Label, OneOf, Record, Repeat
from search_spaces.domains.naming import Inline, Shared
from search_spaces.domains.ranges import Confidence, Domain, FloatRange, IntRange, join
from search_spaces.domains.suggester import grid_point

Expected = IntRange | FloatRange | OneOf[Any]
"""A domain of one decision that has a prior."""

SPREAD: dict[Confidence, float] = {"low": 0.5, "medium": 0.25, "high": 0.125}
"""Standard deviation of a number about its likeliest value, as a share of its whole range; with
`ODDS` the scale of NePS, which implements PriorBand (Mallik et al. 2023)."""

ODDS: dict[Confidence, float] = {"low": 2.0, "medium": 4.0, "high": 6.0}
"""How much likelier the expected choice is than each of the others."""


def priors(domain: Domain[Any], path: str = "") -> Iterator[tuple[str, Expected]]:
    """Every decision with a prior that a domain may ask for, by name, in the order of asking."""
    asks = not isinstance(domain, OneOf) or len(domain.branches) > 1
    if asks and isinstance(domain, IntRange | FloatRange | OneOf) and domain.prior is not None:
        yield path, domain
    for part, name in _parts(domain, path):
        yield from priors(part, name)


def _parts(domain: Domain[Any], path: str) -> Iterator[tuple[Domain[Any], str]]:
    """The domains that a composed one asks, each with the name that it asks under."""
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


def draw(domain: Expected, chance: Random) -> Label:
    """A value drawn from the decision's prior.

    Numbers come from a normal distribution about the likeliest one, cut at the ends of the range,
    on the scale on which the domain is drawn; choices by their odds.
    """
    if isinstance(domain, OneOf):
        labels = list(domain.branches)
        odds = [ODDS[domain.confidence] if label == domain.prior else 1.0 for label in labels]
        label: Label = chance.choices(labels, odds)[0]
        return label
    half = 0.0 if domain.step is None else domain.step / 2
    scale = math.log if domain.log else float
    low, high = scale(domain.low - half), scale(domain.high + half)
    centre, spread = scale(domain.prior or 0), SPREAD[domain.confidence] * (high - low)
    while not low <= (drawn := chance.gauss(centre, spread)) <= high:
        pass  # the centre lies within: at least one draw in three does too
    return _within(domain, math.exp(drawn) if domain.log else drawn)


def _within(domain: IntRange | FloatRange, drawn: float) -> float:
    """The nearest value that the domain holds."""
    if domain.step is None:
        return min(max(drawn, domain.low), domain.high)
    last = round((domain.high - domain.low) / domain.step)
    steps = min(max(round((drawn - domain.low) / domain.step), 0), last)
    if isinstance(domain, IntRange):
        return domain.low + steps * domain.step
    return grid_point(domain.low, domain.step, steps)
