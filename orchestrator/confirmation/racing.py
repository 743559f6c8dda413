"""Racing: a sequential test of several candidates against a reference, on paired seeds.

Every candidate is compared with the reference over the same seeds. Seeds are added look by look.
The race ends at the first look at which a candidate is better, or when none can become better. On
noise alone a race names a winner in at most 2.5 % of cases, over all candidates and looks:
Bonferroni's correction over the candidates, an alpha-spending function over the looks (Kim and
DeMets, Biometrika 1987). Intervals are repeated confidence intervals (Jennison and Turnbull, 1989),
so they hold although the race stops at a good moment.

Scores are plain numbers, more being better.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

ALPHA = 0.025
"""Probability of a winner where there is only noise: one side of a 95 % interval."""
SPENDING_POWER = 3
"""The share (n / N) ** SPENDING_POWER of ALPHA is spent after n of N seeds."""
OPTIMISM = 2.0
"""Standard errors by which a true gain may exceed the mean seen, in the test of futility."""
LOOKS = (3, 5, 7, 10, 14, 20, 28, 40, 56, 80)
"""Numbers of seeds after which results are compared."""

Scores = Mapping[int, float]
"""Scores of one contestant by index of the seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: int
    """Number of seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """State of a race after its last complete look."""

    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """Gain over the reference, by candidate, at the candidate's last look."""
    winner: str | None = None
    """The best of the candidates that are better than the reference."""
    racing: tuple[str, ...] = ()
    """Candidates that may still win; empty once the race is decided."""
    next_look: int = 0
    """Number of seeds that the reference and the racing candidates need; 0 once decided."""
    noise: float = 0.0
    """Standard deviation of the score of one training; 0 before the first look."""

    @property
    def decided(self) -> bool:
        """True if no further seed is needed."""
        return not self.racing


def looks(max_seeds: int) -> tuple[int, ...]:
    """Return the numbers of seeds after which a race is judged."""
    return (*(look for look in LOOKS if look < max_seeds), max_seeds)


def race(
    reference: Scores,
    candidates: Mapping[str, Scores],
    *,
    max_seeds: int,
    failed: Collection[str] = (),
) -> Race:
    """Judge a race: a function of the scores, in whatever order they arrived.

    Args:
        reference: Scores of the reference.
        candidates: Scores of the candidates by name, of other seeds than they were selected by.
        max_seeds: Maximum number of seeds, at least 3.
        failed: Candidates that have left the race; they still count in the correction.
    """
    state = Race(racing=tuple(name for name in candidates if name not in failed))
    spent = 0.0
    for look in looks(max_seeds):
        rows = [reference, *(candidates[name] for name in state.racing)]
        if state.decided:
            return state
        if not all(index in row for row in rows for index in range(look)):
            return Race(
                estimates=state.estimates,
                racing=state.racing,
                next_look=look,
                noise=state.noise,
            )
        total = ALPHA * (look / max_seeds) ** SPENDING_POWER
        test = _Look(look, max_seeds, level=(total - spent) / len(candidates))
        state, spent = test.judge(state, reference, candidates), total
    return state


def mean_interval(scores: Sequence[float], *, num_candidates: int) -> Estimate:
    """Return the mean score of one contestant, with an interval that holds for the best of all."""
    count = len(scores)
    error = float(np.std(scores, ddof=1)) / math.sqrt(count)
    return _estimate(
        float(np.mean(scores)), error * _quantile(count - 1, ALPHA / num_candidates), count
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """Comparison of all racing candidates after a number of seeds."""

    seeds: int
    max_seeds: int
    level: float = field(kw_only=True)
    """Probability of a false winner, for each candidate."""

    def judge(self, before: Race, reference: Scores, candidates: Mapping[str, Scores]) -> Race:
        """Return the race after this look."""
        noise, freedom = _residual(
            [self._seen(row) for row in (reference, *candidates.values())],
        )
        width = _quantile(freedom, self.level)
        estimates, hopeful = dict(before.estimates), []
        for name in before.racing:
            gains = [candidates[name][index] - reference[index] for index in range(self.seeds)]
            # Not below the pooled noise: few or coarse results may agree by chance.
            spread = max(float(np.std(gains, ddof=1)), noise * math.sqrt(2))
            mean, error = float(np.mean(gains)), spread / math.sqrt(self.seeds)
            estimates[name] = _estimate(mean, error * width, self.seeds)
            if self._may_win(mean, error, len(candidates)):
                hopeful.append(name)
        better = [name for name in before.racing if estimates[name].low > 0]
        if better:
            winner = max(better, key=lambda name: estimates[name].mean)
            return Race(estimates=estimates, winner=winner, noise=noise)
        return Race(estimates=estimates, racing=tuple(hopeful), noise=noise)

    def _seen(self, row: Scores) -> Scores:
        return {index: score for index, score in row.items() if index < self.seeds}

    def _may_win(self, mean: float, error: float, num_candidates: int) -> bool:
        """Return whether a candidate could still win with all seeds, seen with some optimism."""
        if self.seeds == self.max_seeds:
            return False
        freedom = (self.max_seeds - 1) * num_candidates
        needed = _quantile(freedom, ALPHA / num_candidates) * math.sqrt(self.seeds / self.max_seeds)
        return mean + OPTIMISM * error >= needed * error


def _estimate(mean: float, half_width: float, seeds: int) -> Estimate:
    return Estimate(mean=mean, low=mean - half_width, high=mean + half_width, seeds=seeds)


def _residual(rows: Sequence[Scores]) -> tuple[float, int]:
    """Return the standard deviation of one training's score, and its degrees of freedom.

    It is what the additive model score = contestant + seed leaves unexplained (a randomized block
    design), pooled over all contestants, also those that have left the race.
    """
    cells = [
        (row, seed, score) for row, scores in enumerate(rows) for seed, score in scores.items()
    ]
    num_seeds = 1 + max(seed for _, seed, _ in cells)
    design = np.zeros((len(cells), len(rows) + num_seeds))
    for line, (row, seed, _) in enumerate(cells):
        design[line, [row, len(rows) + seed]] = 1
    values = np.array([score for _, _, score in cells])
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(cells) - int(rank)
    return float(np.linalg.norm(values - design @ solution)) / math.sqrt(freedom), freedom


def _quantile(freedom: int, level: float) -> float:
    """Return the value that Student's t exceeds with this probability."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to load, rarely needed

    return float(stdtrit(freedom, 1 - level))
