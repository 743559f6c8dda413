"""Schedules of learning rate and momentum: closed forms of the step and the number of steps.

They have no state, so a resumed trial needs none.
"""

import math

from search_spaces.recipe import Recipe

FIRST_SHARE = 1 / 25
"""Initial rate of one-cycle over its maximum (Smith 2018; torch's OneCycleLR)."""
LAST_SHARE = FIRST_SHARE / 1e4
"""Final rate of one-cycle over its maximum."""
MOMENTUM_DIP = 0.1
"""Decrease of one-cycle's momentum at the maximum rate."""


def learning_rate(recipe: Recipe, step: float, num_steps: int) -> float:
    """Return the learning rate of a step.

    Args:
        recipe: Schedule, maximum rate and warm-up.
        step: Step, from 0.
        num_steps: Number of steps in the whole budget.
    """
    if recipe.schedule == "one_cycle":
        shares = (FIRST_SHARE, 1.0, LAST_SHARE)
        return recipe.learning_rate * _cycle(recipe.warmup, step, num_steps, shares)
    warm = recipe.warmup * num_steps
    if step < warm:
        return recipe.learning_rate * min(1.0, (step + 1) / warm)
    # Always below 1: the last step still has a positive rate.
    progress = (step - warm) / (num_steps - warm)
    share = {
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "linear": 1 - progress,
        "constant": 1.0,
    }[recipe.schedule]
    return recipe.learning_rate * share


def momentum(recipe: Recipe, step: float, num_steps: int) -> float:
    """Return the momentum of a step: one-cycle varies it inversely to the rate, others do not."""
    if recipe.schedule != "one_cycle":
        return recipe.momentum
    low = max(0.0, recipe.momentum - MOMENTUM_DIP)
    return _cycle(recipe.warmup, step, num_steps, (recipe.momentum, low, recipe.momentum))


def _cycle(warmup: float, step: float, num_steps: int, stops: tuple[float, float, float]) -> float:
    """Return the value on half cosines through three stops, the second at the end of warm-up."""
    first, peak, last = stops
    turn = warmup * num_steps - 1
    if step < turn:
        return _ease(first, peak, step / turn)
    return _ease(peak, last, (step - turn) / (num_steps - 1 - turn))


def _ease(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
