"""Learning rate and momentum at every step: closed forms of the step and the number of steps.

Knows no optimizer. Having no state, a schedule is right after a resume without being kept.
"""

import math

from search_spaces.recipe import Recipe

FIRST_SHARE = 1 / 25
"""Where one-cycle starts, as a share of the highest rate (Smith 2018; torch's OneCycleLR)."""
LAST_SHARE = FIRST_SHARE / 1e4
"""Where one-cycle ends."""
MOMENTUM_DIP = 0.1
"""How far one-cycle lowers momentum while the rate is at its highest."""


def learning_rate(recipe: Recipe, step: float, num_steps: int) -> float:
    """The learning rate of a step, counted from 0, of so many in the whole budget."""
    if recipe.schedule == "one_cycle":
        shares = (FIRST_SHARE, 1.0, LAST_SHARE)
        return recipe.learning_rate * _cycle(recipe.warmup, step, num_steps, shares)
    warm = recipe.warmup * num_steps
    if step < warm:
        return recipe.learning_rate * min(1.0, (step + 1) / warm)
    # Never quite 1: the last step still learns.
    gone = (step - warm) / (num_steps - warm)
    share = {
        "cosine": (1 + math.cos(math.pi * gone)) / 2,
        "linear": 1 - gone,
        "constant": 1.0,
    }[recipe.schedule]
    return recipe.learning_rate * share


def momentum(recipe: Recipe, step: float, num_steps: int) -> float:
    """The momentum of a step: one-cycle moves it against the learning rate, others leave it."""
    if recipe.schedule != "one_cycle":
        return recipe.momentum
    low = max(0.0, recipe.momentum - MOMENTUM_DIP)
    return _cycle(recipe.warmup, step, num_steps, (recipe.momentum, low, recipe.momentum))


def _cycle(warmup: float, step: float, num_steps: int, stops: tuple[float, float, float]) -> float:
    """From the first to the second value in the warm-up, then to the last, by half cosines."""
    first, peak, last = stops
    turn = warmup * num_steps - 1
    if step < turn:
        return _ease(first, peak, step / turn)
    return _ease(peak, last, (step - turn) / (num_steps - 1 - turn))


def _ease(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
