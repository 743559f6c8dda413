"""The sampler `auto`: samples near the best trials, from priors and uniformly, ranked by a model.

Written for conditional spaces of architectures and for 15 to 200 trials. A suggestion is the best
of a pool by expected improvement per predicted cost; most neighbors of good candidates are sane,
and the model costs milliseconds. Everything is derived from the trials added so far.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.objective import Objective
from orchestrator.sampling.candidates import Space
from orchestrator.sampling.history import SECONDS, History
from orchestrator.sampling.mutation import MutatingSuggester, PriorSuggester
from orchestrator.sampling.pool import Key, Parent, Pool, key_of
from orchestrator.sampling.proposal_model import ModelTargets, ProposalModel
from orchestrator.sampling.screening import CountedSample, counted_samples
from orchestrator.sampling.space_versions.distributions import to_json, to_question
from orchestrator.sampling.transfer.source_model import SourceModel
from orchestrator.seeds import derive_seed
from orchestrator.trial import Trial
from search_spaces.space import Constraint
from search_spaces.task import Task
from workers.budget import Budget

NUM_BROAD = 40
"""Samples of each pool near the best trials, from priors and uniformly."""
NUM_CLIMBS, NUM_NEIGHBORS = 3, 24
"""Rounds that add neighbors of the best samples of the pool, and their number in each round."""
NUM_COUNTED = 64
"""Samples whose costs are counted once a start, 10 to 30 ms each, when one is first predicted: it
is learned from them, not from the few trials of a young study."""
NUM_PARENTS = 3
"""Number of best trials, or samples, whose neighbors are sampled."""


class AutoSuggestion:
    """A sample: a suggester that repeats its answers."""

    def __init__(self, suggester: MutatingSuggester) -> None:
        self.suggester = suggester
        """Suggester to resolve the space with."""

    @property
    def params(self) -> dict[str, Any]:
        """Decisions by name."""
        return dict(self.suggester.params)

    @property
    def distributions(self) -> dict[str, str]:
        """Optuna's JSON of each decision's distribution, by name."""
        return {name: to_json(q) for name, q in self.suggester.questions.items()}


class AutoSampler:
    """One study's history, and the model that ranks samples by it.

    Examples:
        >>> sampler = AutoSampler(space=space, objectives=objectives, budget=budget, seed=0)
        >>> candidate = space.resolve(sampler.sample(0, 0).suggester)
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        budget: Budget,
        seed: int,
        constraints: Sequence[Constraint] = (),
        task: Task | None = None,
        predict_from_clock: bool = False,
        sources: Sequence[SourceModel] = (),
    ) -> None:
        """Start with an empty history.

        Args:
            space: The study's space.
            objectives: The study's objectives.
            budget: The study's budget; scores at its rungs are compared.
            seed: The study's seed.
            constraints: Bounds on costs, in addition to the space's own.
            task: Task that costs are counted for; None counts nothing.
            predict_from_clock: Predict the cost of training from measured times where FLOPs cannot
                be counted; otherwise suggestions do not depend on the machine.
            sources: Models of earlier studies on other data, for this sampler alone.
        """
        self._space, self._task, self._seed = space, task, seed
        self._expected, self._parts = space.expected(), space.parts()
        self._targets = ModelTargets(
            objectives=tuple(objectives),
            constraints=(*constraints, *space.constraints),
            training_cost=("flops", SECONDS) if predict_from_clock else ("flops",),
        )
        self._history = History(objectives, budget.possible_rungs(), self._targets.costs)
        self._sources = sources
        self._counted: tuple[CountedSample, ...] | None = None
        self._tried: set[Key] = set()
        self._pool: tuple[int, Sequence[MutatingSuggester]] | None = None

    def rebuild(self, trials: Iterable[Trial]) -> None:
        """Add the ledger's trials by number; duplicates have no result of their own."""
        for trial in sorted(trials, key=lambda t: t.number):
            if trial.reason != "duplicate":
                self.add_open(trial)

    def sample(
        self, number: int, resample: int, fixed: Mapping[str, Any] | None = None
    ) -> AutoSuggestion:
        """Return the suggestion for a trial number; equal histories give equal suggestions.

        Resamples are the next best samples of the same pool. After the last of them, as in a space
        whose candidates are nearly all known, they are uniform.

        Args:
            number: The trial's number.
            resample: Number of duplicates that preceded it.
            fixed: Values by name; other decisions are sampled from their priors, without a model.
        """
        if fixed is None and resample < len(pool := self._ranked(number)):
            return AutoSuggestion(pool[resample])
        rng = random.Random(derive_seed(self._seed, "auto", number, resample))  # noqa: S311 - not for cryptography
        if fixed is None:
            return AutoSuggestion(MutatingSuggester({}, (), rng))
        return AutoSuggestion(PriorSuggester(fixed, self._expected, rng))

    def discard(self, suggestion: AutoSuggestion) -> None:
        """Do nothing: a suggestion leaves no trace until it is kept."""

    def attributes(self, suggestion: AutoSuggestion) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Return nothing: the trials themselves are enough."""
        return {}

    def keep(self, suggestion: AutoSuggestion, uid: str, number: int) -> None:  # noqa: ARG002 - the port's
        """Register a suggestion as an open trial of the ledger."""
        self._add(uid, suggestion.params, suggestion.distributions)

    def add_open(self, trial: Trial) -> None:
        """Add a trial of the ledger with its measurements."""
        self._add(trial.uid, trial.params, trial.distributions)
        self.observe(trial)

    def observe(self, trial: Trial) -> None:
        """Record the measurements so far of an open trial, running or paused."""
        self._history.update(trial)
        self._pool = None

    def tell(self, trial: Trial) -> None:
        """Record the outcome of an open trial."""
        self.observe(trial)

    def _count_costs(self) -> tuple[CountedSample, ...]:
        """Return samples from which costs are predicted before many trials are known."""
        if self._counted is None:
            seeds = [derive_seed(self._seed, "cost", index) for index in range(NUM_COUNTED)]
            self._counted = counted_samples(self._space, self._task, seeds)
        return self._counted

    def _add(self, uid: str, params: Mapping[str, Any], distributions: Mapping[str, str]) -> None:
        # Questions are those of the ledger, so that a resumed study has the same features.
        questions = {name: to_question(text) for name, text in distributions.items()}
        self._history.add(uid, params, questions)
        self._tried.add(key_of(params))
        self._pool = None

    def _ranked(self, number: int) -> Sequence[MutatingSuggester]:
        """Return the pool of a trial number, the best sample first."""
        if self._pool is None or self._pool[0] != number:
            seed, history = derive_seed(self._seed, "auto", number), self._history
            rng = random.Random(seed)  # noqa: S311 - not for cryptography
            model = ProposalModel(history, self._targets, seed, self._count_costs, self._sources)
            rows = model.parents(NUM_PARENTS)
            parents = [self._parent(history.params[row], rng) for row in rows]
            pool = Pool(self._space, self._expected, self._parts, self._tried, rng)
            if model.predicts_scores:
                pool.add_broad(NUM_BROAD, parents)
            else:
                pool.add_in_turn(NUM_BROAD, parents, number)
            self._pool = number, _climb(pool, model)
        return self._pool[1]

    def _parent(self, params: Mapping[str, Any], rng: random.Random) -> Parent:
        """Return a trial as a parent; what the space no longer contains is sampled again."""
        repeated = MutatingSuggester(params, (), rng)
        self._space.resolve(repeated)
        return Parent(repeated.params, repeated.questions)


def _climb(pool: Pool, model: ProposalModel) -> list[MutatingSuggester]:
    """Return a pool by merit, extended by neighbors of its best samples."""
    merit = model.merit(pool.samples)
    for _ in range(NUM_CLIMBS if model.predicts_scores else 0):
        best = np.argsort(-merit, kind="stable")[:NUM_PARENTS]
        pool.add_neighbors(NUM_NEIGHBORS, [pool.samples[index] for index in best])
        merit = np.append(merit, model.merit(pool.samples[len(merit) :]))
    return [pool.samples[index] for index in np.argsort(-merit, kind="stable")]
