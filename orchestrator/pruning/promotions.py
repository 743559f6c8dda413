"""Promotions at a rung: how many trials train beyond it, which of them, and which are audited."""

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.seeds import derive_seed
from workers.budget import Budget

AUDIT_EVERY = 20
"""One in this many trials trains to the end whatever its rank."""


def is_promoted(
    scores: Mapping[str, float | tuple[float, ...]], trial: str, reduction_factor: int
) -> bool:
    """Return whether a rung promotes a trial.

    Args:
        scores: Score, or key of `pareto_order`, by trial, of all trials measured at the rung,
            including this one.
        trial: The trial.
        reduction_factor: One in this many is promoted.

    Returns:
        True for the best `len(scores) // reduction_factor` trials, at least one, and for one that
        equals the last of these.
    """
    own: Any = scores[trial]
    better: int = sum(score > own for score in scores.values())
    return better < num_promoted(len(scores), reduction_factor)


def num_promoted(trials: int, reduction_factor: int) -> int:
    """Return the number of trials that a rung promotes, of those measured there."""
    return max(1, trials // reduction_factor)


def expected_complete(trials: int, budget: Budget) -> int:
    """Return the expected number of complete trials, for scores in random order.

    A closed form, with n mod factor replaced by its mean and the sum of 1/n by a logarithm. Rounded
    up: trials that reach a rung late competed with more trials, so more of them are promoted again.
    """
    factor, left = budget.reduction_factor, float(trials)
    for _ in budget.rungs()[:-1]:
        # The n-th arrival is promoted with probability max(1, n // factor) / n.
        first = math.fsum(1 / n for n in range(1, factor))
        if left > factor - 1:
            left = (
                first
                + (left - factor + 1) / factor
                - math.log(left / (factor - 1)) * (factor - 1) / (2 * factor)
            )
    return math.ceil(left)


def is_audited(seed: int, number: int, every: int = AUDIT_EVERY) -> bool:
    """Return whether a trial trains to the end whatever its rank.

    One of each `every` consecutive numbers, at random.

    Args:
        seed: The study's seed.
        number: The trial's number.
        every: One in this many trials is audited.
    """
    block, place = divmod(number, every)
    return number > 0 and place == derive_seed(seed, "audit", block) % every
