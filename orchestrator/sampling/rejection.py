"""Rejection sampling: find candidates that meet the constraints where the sampler proposes none.

A sampler that learns from complete trials alone never learns which candidates are infeasible. So
after some infeasible proposals in a row, candidates are sampled uniformly, then as neighbors of the
closest known one, and only one of them is recorded. The number of samples is fixed: equal histories
give equal candidates on any machine. The clock only decides when the search is aborted.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.clock import Clock
from orchestrator.formatting import format_duration
from orchestrator.sampling.mutation import ShrinkingSuggester, architecture_decisions
from orchestrator.sampling.screening import DOES_NOT_BUILD, Screening, screen
from orchestrator.trial import Trial
from search_spaces.candidate import Candidate, Decisions
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.space import Constraint, DefineByRunSpace, SearchSpace
from search_spaces.task import Task

UNIFORM_SAMPLES = 25
"""Uniform samples for one proposal: unbiased, and enough where one in ten is feasible."""
NEIGHBOR_SAMPLES = 15
"""Neighbors of the closest candidate, sampled after the uniform ones."""
TIMEOUT_S = 300.0
"""Seconds without a feasible candidate before the search is aborted, if MIN_REJECTED is met."""
MIN_REJECTED = 3000
"""Rejected candidates in a row before the search is aborted; at a feasible share of 1 % so many in
a row have a probability of 1e-13."""


class RejectionStats:
    """Counts of rejected candidates since this driver started; may be read from another thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._screened = self._rejected = 0
        self._violated: Counter[str] = Counter()
        self.in_a_row = 0
        """Candidates rejected since the last feasible one."""

    def add(self, screening: Screening) -> None:
        """Count a candidate."""
        self._screened += 1
        if screening.feasible:
            self._since, self.in_a_row = None, 0
            return
        self._since = self._clock.monotonic() if self._since is None else self._since
        self._rejected += 1
        self.in_a_row += 1
        self._violated.update(name for name, bad in screening.violations.items() if bad > 0)

    @property
    def seconds(self) -> float:
        """Seconds since the first candidate rejected in a row; 0 if there is none."""
        since = self._since
        return 0.0 if since is None else self._clock.monotonic() - since

    @property
    def abort_reason(self) -> str | None:
        """Reason to abort the search, after long without a feasible candidate; None otherwise."""
        if self.in_a_row < MIN_REJECTED or self.seconds < TIMEOUT_S:
            return None
        feasible = self._screened - self._rejected
        violated = dict(self._violated)  # a copy, because another thread may add to it
        tightest = max(violated, key=violated.__getitem__)
        fix = "Raise its at_most, or search a space of smaller networks"
        if tightest == DOES_NOT_BUILD:
            fix = "Most networks of this space do not build on this data: search another space"
        return (
            f"no new candidate met the constraints for {format_duration(self.seconds)}: of "
            f"{self._screened:,} sampled since this start {feasible:,} were feasible "
            f"({feasible / self._screened:.2%}); '{tightest}' rejected {violated[tightest]:,} of "
            f"the others. {fix}"
        )


class RejectionSampler:
    """Samples candidates of one space until one meets the constraints."""

    def __init__(
        self,
        space: SearchSpace | DefineByRunSpace,
        task: Task,
        constraints: Sequence[Constraint],
        stats: RejectionStats,
    ) -> None:
        self._space = space
        self._task = task
        self._constraints = tuple(constraints)
        self._stats = stats

    def architecture(
        self,
        known: Iterable[Trial],
        seed: int,
        tried: Callable[[Candidate | Decisions], bool],
        *,
        repeat: bool,
    ) -> Mapping[str, Any] | None:
        """Return decisions of a new feasible network, else of the one that violates least.

        Args:
            known: The study's trials; neighbors of a feasible one, else of the closest, are tried.
            seed: Seed of all samples.
            tried: Returns whether a candidate was tried before.
            repeat: Return a trained network, for another recipe, if no new one is feasible.

        Returns:
            None if all sampled candidates were tried before.
        """
        rng = random.Random(seed)  # noqa: S311 - not for cryptography
        feasible, nearest, closest = _start(known, rng)
        chosen, least = None, (float("inf"), True)
        for number in range(UNIFORM_SAMPLES + NEIGHBOR_SAMPLES):
            near = nearest if number >= UNIFORM_SAMPLES else {}
            suggester = _suggester(near, rng)
            candidate = self._space.resolve(suggester)
            decided = architecture_decisions(suggester.params)
            screening = screen(candidate, self._task, self._constraints)
            if not screening.feasible:
                self._stats.add(screening)
            excess = _excess(screening.violations)
            if excess <= closest:
                nearest, closest = decided, excess
            trained = excess == 0 and decided in feasible
            rank = (excess, trained)
            if rank < least and (repeat or not trained) and not tried(candidate):
                chosen, least = decided, rank
            if least == (0.0, False):
                break
        return chosen


def _suggester(near: Mapping[str, Any], rng: random.Random) -> RandomSuggester | ShrinkingSuggester:
    """Return a uniform suggester, or one for neighbors of some decisions."""
    if not near:
        return RandomSuggester(rng.getrandbits(32))
    count = min(len(near), rng.choice((1, 1, 2, 3)))
    return ShrinkingSuggester(near, frozenset(rng.sample(sorted(near), count)), rng)


def _start(
    known: Iterable[Trial], rng: random.Random
) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any], float]:
    """Return decisions of all feasible networks, and a start with its largest violation."""
    screened = [trial for trial in known if trial.violations]
    feasible = [architecture_decisions(t.params) for t in screened if _excess(t.violations) == 0]
    if feasible:
        return feasible, rng.choice(feasible), 0.0
    nearest = min(screened, key=lambda trial: _excess(trial.violations), default=None)
    if nearest is None:
        return [], {}, float("inf")
    return [], architecture_decisions(nearest.params), _excess(nearest.violations)


def _excess(violations: Mapping[str, float]) -> float:
    """Return the largest violation, at least 0; infinity if the network does not build."""
    if DOES_NOT_BUILD in violations:
        return float("inf")
    return max([0.0, *violations.values()])
