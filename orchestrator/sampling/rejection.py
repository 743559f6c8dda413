"""RejectionSampler sampling: candidates that meet the constraints where the sampler proposes none.

A sampler that learns from complete trials alone never learns what the constraints refuse. So after
some refused proposals in a row candidates are drawn uniformly, then as neighbours of the nearest
one known, and only one is recorded. The number of draws is fixed: equal histories give equal
candidates, whatever the machine's speed. The clock decides only when the search is given up.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.clock import Clock
from orchestrator.formatting import format_duration
from orchestrator.sampling.mutation import MutatingSuggester, architecture_decisions
from orchestrator.sampling.screening import DOES_NOT_BUILD, Screening, screen
from orchestrator.trial import Trial
from search_spaces.candidate import Candidate, Decisions
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.space import Constraint, DefineByRunSpace, SearchSpace
from search_spaces.task import Task

UNIFORM_DRAWS = 25
"""Uniform draws for one proposal: unbiased, and enough where one in ten is feasible."""
NEIGHBOUR_DRAWS = 15
"""Neighbours of the nearest candidate that follow."""
TIMEOUT_S = 300.0
"""Seconds without a feasible candidate after which the search is aborted, if MIN_REFUSED is met."""
MIN_REFUSED = 3000
"""Candidates refused in a row before the search is aborted; at a feasible share of 1 % so many in a
row have a chance of 1e-13."""


class RejectionStats:
    """What the constraints refused since this driver started; safe to read from another thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._screened = self._refused = 0
        self._violated: Counter[str] = Counter()
        self.in_a_row = 0
        """Candidates refused since the last feasible one."""

    def add(self, screened: Screening) -> None:
        """Count a candidate."""
        self._screened += 1
        if screened.feasible:
            self._since, self.in_a_row = None, 0
            return
        self._since = self._clock.monotonic() if self._since is None else self._since
        self._refused += 1
        self.in_a_row += 1
        self._violated.update(name for name, bad in screened.violations.items() if bad > 0)

    @property
    def seconds(self) -> float:
        """Time since the first of the candidates refused in a row; 0 where there is none."""
        since = self._since
        return 0.0 if since is None else self._clock.monotonic() - since

    @property
    def abort_reason(self) -> str | None:
        """Why the search should be aborted, if no feasible candidate was found for long."""
        if self.in_a_row < MIN_REFUSED or self.seconds < TIMEOUT_S:
            return None
        feasible = self._screened - self._refused
        violated = dict(self._violated)  # a copy, for another thread may add to it
        tightest = max(violated, key=violated.__getitem__)
        fix = "Raise its at_most, or search a space of smaller networks"
        if tightest == DOES_NOT_BUILD:
            fix = "Most networks of this space do not build on this data: search another space"
        return (
            f"no new candidate met the constraints for {format_duration(self.seconds)}: of "
            f"{self._screened:,} drawn since this start {feasible:,} were feasible "
            f"({feasible / self._screened:.2%}); '{tightest}' refused {violated[tightest]:,} of "
            f"the others. {fix}"
        )


class RejectionSampler:
    """Draws candidates of one space until one meets the constraints."""

    def __init__(
        self,
        space: SearchSpace | DefineByRunSpace,
        task: Task,
        constraints: Sequence[Constraint],
        refusals: RejectionStats,
    ) -> None:
        self._space = space
        self._task = task
        self._constraints = tuple(constraints)
        self._refusals = refusals

    def architecture(
        self,
        known: Iterable[Trial],
        seed: int,
        tried: Callable[[Candidate | Decisions], bool],
        *,
        repeat: bool,
    ) -> Mapping[str, Any] | None:
        """Decisions of a new feasible network, or else of the one that violates least.

        Args:
            known: The study's trials; neighbours of a feasible one, or else of the nearest, are
                tried.
            seed: Decides every draw.
            tried: Whether a candidate is known already.
            repeat: Take a network that was trained, with another recipe, if no new one is feasible.

        Returns:
            None if there was none but those tried.
        """
        chance = random.Random(seed)  # noqa: S311 - a search, no secret
        feasible, nearest, closest = _start(known, chance)
        chosen, least = None, (float("inf"), True)
        for number in range(UNIFORM_DRAWS + NEIGHBOUR_DRAWS):
            near = nearest if number >= UNIFORM_DRAWS else {}
            suggester = _suggester(near, chance)
            candidate = self._space.resolve(suggester)
            decided = architecture_decisions(suggester.params)
            screened = screen(candidate, self._task, self._constraints)
            if not screened.feasible:
                self._refusals.add(screened)
            excess = _excess(screened.violations)
            if excess <= closest:
                nearest, closest = decided, excess
            trained = excess == 0 and decided in feasible
            rank = (excess, trained)
            if rank < least and (repeat or not trained) and not tried(candidate):
                chosen, least = decided, rank
            if least == (0.0, False):
                break
        return chosen


def _suggester(
    near: Mapping[str, Any], chance: random.Random
) -> RandomSuggester | MutatingSuggester:
    """Answers uniformly, or as a neighbour of some decisions."""
    if not near:
        return RandomSuggester(chance.getrandbits(32))
    count = min(len(near), chance.choice((1, 1, 2, 3)))
    return MutatingSuggester(near, frozenset(chance.sample(sorted(near), count)), chance)


def _start(
    known: Iterable[Trial], chance: random.Random
) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any], float]:
    """Decisions of all feasible networks, and of one of them or else of the nearest; its excess."""
    screened = [trial for trial in known if trial.violations]
    feasible = [architecture_decisions(t.params) for t in screened if _excess(t.violations) == 0]
    if feasible:
        return feasible, chance.choice(feasible), 0.0
    nearest = min(screened, key=lambda trial: _excess(trial.violations), default=None)
    if nearest is None:
        return [], {}, float("inf")
    return [], architecture_decisions(nearest.params), _excess(nearest.violations)


def _excess(violations: Mapping[str, float]) -> float:
    """The largest violation, 0 where there is none; infinite where the network does not build."""
    if DOES_NOT_BUILD in violations:
        return float("inf")
    return max([0.0, *violations.values()])
