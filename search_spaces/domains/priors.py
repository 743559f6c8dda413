"""Priors: expectations of the author of a space about single decisions, and samples from them.

A prior excludes nothing: every value of the domain stays possible. The sampler decides how far it
trusts them.

Items of a list share one domain and one confidence. Where the list has an `initial` value, the
priors of its items are centered on it, place by place; further items are expected to be like the
last one.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from search_spaces.domains.composite import Label, OneOf, Repeat, choice
from search_spaces.domains.ranges import Confidence, Domain, FloatRange, IntRange, join
from search_spaces.domains.structure import parts
from search_spaces.domains.suggester import grid_point

Expected = IntRange | FloatRange | OneOf[Any]
"""Domain of one decision with a prior."""

SPREAD: dict[Confidence, float] = {"low": 0.5, "medium": 0.25, "high": 0.125}
"""Prior of numbers: standard deviation around the most likely value, relative to the range; like
`ODDS` as in NePS, which implements PriorBand (Mallik et al. 2023)."""

ODDS: dict[Confidence, float] = {"low": 2.0, "medium": 4.0, "high": 6.0}
"""Odds of the expected choice against each of the others."""


def priors(domain: Domain[Any], path: str = "") -> Iterator[tuple[str, Expected]]:
    """Yield all decisions with a prior that a domain may ask for, by name, in order."""
    asks = not isinstance(domain, OneOf) or len(domain.branches) > 1
    if asks and isinstance(domain, IntRange | FloatRange | OneOf) and domain.prior is not None:
        yield path, domain
    centers = _item_centers(domain, path) if isinstance(domain, Repeat) else {}
    for part, name in parts(domain, path):
        for at, expected in priors(part, name):
            yield at, replace(expected, prior=centers.get(at, expected.prior))


def likely_first(*values: Any) -> OneOf[Any]:
    """Return a domain of several plain values; the first is the default, with a weak prior."""
    return choice(*values, prior=values[0], confidence="low")


def _item_centers(repeat: Repeat[Any], path: str) -> dict[str, Any]:
    """Return the most likely answers inside the items of a list, by name."""
    if not repeat.initial:
        return {}
    items, last = list(repeat.initial), repeat.initial[-1]
    for index in range(len(items), repeat.high):
        domain = repeat.item_at(index)
        items.append(last if last in domain else domain.default())
    answers = repeat.encode(tuple(items), path)
    return {name: answer for name, answer in answers.items() if name != join(path, "count")}


def sample_prior(domain: Expected, rng: Random) -> Label:
    """Sample a value from the decision's prior.

    Numbers are normally distributed around the most likely one, truncated to the range, on the
    scale of the domain; choices have their odds.
    """
    if isinstance(domain, OneOf):
        labels = list(domain.branches)
        odds = [ODDS[domain.confidence] if label == domain.prior else 1.0 for label in labels]
        label: Label = rng.choices(labels, odds)[0]
        return label
    half = 0.0 if domain.step is None else domain.step / 2
    scale = math.log if domain.log else float
    low, high = scale(domain.low - half), scale(domain.high + half)
    center, spread = scale(domain.prior or 0), SPREAD[domain.confidence] * (high - low)
    while not low <= (value := rng.gauss(center, spread)) <= high:
        pass  # the center is inside: at least one sample in three is too
    return _within(domain, math.exp(value) if domain.log else value)


def _within(domain: IntRange | FloatRange, value: float) -> float:
    """Return the nearest value in the domain."""
    if domain.step is None:
        return min(max(value, domain.low), domain.high)
    last = round((domain.high - domain.low) / domain.step)
    steps = min(max(round((value - domain.low) / domain.step), 0), last)
    if isinstance(domain, IntRange):
        return domain.low + steps * domain.step
    return grid_point(domain.low, domain.step, steps)
