"""Adapter to Optuna: its ask-and-tell interface over an in-memory storage.

Stores nothing: it is rebuilt from the ledger's trials at each start. Every sample is seeded by
(study seed, trial number, resample) on a sampler built for it, so a resumed study samples the same
candidates as an uninterrupted one.
"""

import math
import random
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from orchestrator.objective import Objective, is_feasible, objective_values, pareto_order
from orchestrator.sampling.sampler import MAX_RESAMPLES
from orchestrator.seeds import derive_seed
from orchestrator.trial import OPERATOR, Trial, TrialState
from search_spaces.domains.priors import Expected, sample_prior

_STARTUP_TRIALS = 10
_POPULATION = 20
COMPLETE_TO_LEARN = {"nsga2": 2 * _POPULATION, "nsga3": 2 * _POPULATION, "gp": _STARTUP_TRIALS + 1}
"""Complete trials below which a sampler proposes (almost) at random: two generations, or more than
its start-up trials. TPE also learns from pruned trials."""
_PRIOR_SHARE = 0.5
"""Share of the first proposals that is sampled from the space's priors."""
_HALF_LIFE = 5
"""Number of results that halves this share, which falls as 1/n as in piBO (Hvarfner et al. 2022):
results outweigh the priors."""

_NAME = "study"
_PARENTS = ":parent:"
_GENERATION = ":generation"

_REACHED = "reached"
"""User attribute of a pruned trial in a multi-objective study: its last step and values."""
_GOOD_SHARE = 0.1
"""Share of the finished trials that multi-objective TPE treats as good."""


class _ParetoTPESampler(optuna.samplers.TPESampler):
    """Multi-objective TPE that ranks pruned trials by their intermediate values.

    Optuna lets a trial report nothing in a multi-objective study, so its own TPE ranks all pruned
    trials equally and last. This one orders them as Optuna does for one objective: longer trained
    first, and by non-domination among trials that were trained equally long.

    One sampler serves one sample: trials are split once for all its decisions.
    """

    _good_and_bad: tuple[list[FrozenTrial], list[FrozenTrial]] | None = None

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._good_and_bad is None:
            others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
            self._good_and_bad = _good_and_bad(others, study.directions)
        good, bad = self._good_and_bad
        likely = self._build_parzen_estimator(study, search_space, good, handle_below=True)
        unlikely = self._build_parzen_estimator(study, search_space, bad, handle_below=False)
        samples = likely.sample(self._rng.rng, self._n_ei_candidates)
        improvement = self._compute_acquisition_func(samples, likely, unlikely)
        best = self._compare(samples, improvement)
        return {name: d.to_external_repr(best[name]) for name, d in search_space.items()}


def _good_and_bad(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    """Split trials as TPE does: the best tenth, and the others with the running trials."""
    states = optuna.trial.TrialState
    running = [t for t in trials if t.state is states.RUNNING]
    by_step: dict[float, list[tuple[tuple[float, ...], FrozenTrial]]] = defaultdict(list)
    for trial in trials:
        if trial.state in {states.COMPLETE, states.PRUNED}:
            step, scores = _rank_key(trial, directions)
            by_step[step].append((scores, trial))
    ordered: list[FrozenTrial] = []
    for step in sorted(by_step, reverse=True):
        keys = pareto_order([scores for scores, _ in by_step[step]])
        best_first = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
        ordered += [by_step[step][place][1] for place in best_first]
    good = math.ceil(_GOOD_SHARE * len(ordered))

    def by_number(chosen: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        return sorted(chosen, key=lambda t: t.number)

    return by_number(ordered[:good]), by_number([*ordered[good:], *running])


def _rank_key(
    trial: FrozenTrial, directions: Sequence[StudyDirection]
) -> tuple[float, tuple[float, ...]]:
    """Return the last step of a finished trial, and its scores among trials of that step.

    Complete trials come first, then pruned ones by their last step, then those without values, and
    infeasible ones by their violation.
    """
    violation = sum(v for v in trial.constraints.values() if v > 0)
    if violation > 0:
        return -2.0, (-violation,)
    step, values = trial.user_attrs.get(_REACHED, (-1.0, ()))
    if trial.state is optuna.trial.TrialState.COMPLETE:
        step, values = math.inf, trial.values
    signs = (1.0 if d is StudyDirection.MAXIMIZE else -1.0 for d in directions)
    return step, tuple(sign * value for sign, value in zip(signs, values, strict=False))


_TPE: Mapping[str, Any] = {
    "multivariate": True,
    "group": True,
    "constant_liar": True,
    "n_startup_trials": _STARTUP_TRIALS,
}
_SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, **_TPE),
    "multi-objective tpe": lambda seed: _ParetoTPESampler(seed=seed, **_TPE),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(seed=seed, population_size=_POPULATION),
    "gp": lambda seed: optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=_STARTUP_TRIALS, warn_independent_sampling=False
    ),
}


class OptunaSuggestion:
    """An open Optuna trial: a suggester that records its values."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.suggester = trial
        """Suggester to resolve the space with."""

    @property
    def params(self) -> dict[str, Any]:
        """Values suggested so far, by name."""
        return dict(self.suggester.params)

    @property
    def distributions(self) -> dict[str, str]:
        """Optuna's JSON of each decision's distribution, by name."""
        return {k: distribution_to_json(d) for k, d in self.suggester.distributions.items()}


class OptunaSampler:
    """One study's history in Optuna, and the sampler that proposes from it.

    A trial is *open* from its suggestion until `tell`. Open trials count as pending (constant
    liar), so that parallel suggestions differ. Trial numbers in Optuna differ from the ledger's,
    because discarded suggestions take one too.
    """

    def __init__(
        self,
        *,
        sampler: str,
        objectives: Sequence[Objective],
        seed: int,
        expected: Mapping[str, Expected] | None = None,
    ) -> None:
        """Start with an empty history.

        Args:
            sampler: One of `tpe`, `random`, `nsga2`, `nsga3`, `gp`.
            objectives: The study's objectives.
            seed: The study's seed.
            expected: Decisions that have a prior, by name.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it logs every study
        # `group` and NSGA-III are experimental, and Optuna is pinned. Set once, because samples run
        # in threads, where `warnings.catch_warnings` may lose filters.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pareto = sampler == "tpe" and len(objectives) > 1
        self._build = _SAMPLERS["multi-objective tpe" if pareto else sampler]
        self._objectives = tuple(objectives)
        self._seed = seed
        self._expected = dict(expected or {})
        self._results = 0
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(
            study_name=_NAME,
            storage=self._storage,
            directions=[o.direction for o in objectives],
            sampler=optuna.samplers.RandomSampler(seed=seed),
            pruner=optuna.pruners.NopPruner(),
        )
        self._study_id = self._storage.get_study_id_from_name(_NAME)
        self._open: dict[str, optuna.Trial] = {}
        self._ledger_number: dict[int, int] = {}
        self._optuna_number: dict[int, int] = {}
        self._recorded_parents: set[str] = set()

    def rebuild(self, trials: Iterable[Trial]) -> None:
        """Add the ledger's trials by number; unfinished ones become open."""
        for trial in sorted(trials, key=lambda t: t.number):
            if trial.reason == "duplicate":
                continue
            self.add_open(trial)
            if trial.state.is_terminal:
                self.tell(trial)

    def sample(
        self, number: int, resample: int, fixed: Mapping[str, Any] | None = None
    ) -> OptunaSuggestion:
        """Return the suggestion for a trial number; equal histories give equal suggestions.

        From the middle of the resamples on, values are sampled uniformly: a model that keeps
        proposing known candidates would not find the last untried ones of a small space.

        Args:
            number: The trial's number.
            resample: Number of duplicates that preceded it.
            fixed: Values by name; the sampler chooses the others. With None, some suggestions take
                all decisions that have a prior from it, fewer as results accumulate. Values of
                inactive branches are ignored.
        """
        uniformly = resample > MAX_RESAMPLES // 2
        build = _SAMPLERS["random"] if uniformly else self._build
        self._study.sampler = build(derive_seed(self._seed, "draw", number, resample))
        if fixed is None and not uniformly:
            fixed = self._from_priors(number, resample)
        if fixed is not None:
            self._study.enqueue_trial(dict(fixed))
        return OptunaSuggestion(self._study.ask())

    def discard(self, suggestion: OptunaSuggestion) -> None:
        """Discard a suggestion that becomes no trial; samplers ignore it as FAIL."""
        self._study.tell(suggestion.suggester, state=optuna.trial.TrialState.FAIL)

    def attributes(self, suggestion: OptunaSuggestion) -> dict[str, Any]:
        """Return the attributes that a restart needs for this trial: NSGA's generations."""
        own = self._storage.get_trial(self._id(suggestion.suggester)).system_attrs
        shared = self._storage.get_study_system_attrs(self._study_id)
        parents = {
            key: [self._ledger_number[number] for number in numbers]
            for key, numbers in shared.items()
            if _PARENTS in key and key not in self._recorded_parents
        }
        kept: dict[str, Any] = {k: v for k, v in own.items() if k.endswith(_GENERATION)}
        return {**kept, **({"parents": parents} if parents else {})}

    def keep(self, suggestion: OptunaSuggestion, uid: str, number: int) -> None:
        """Register a suggestion as a trial of the ledger, open until `tell`."""
        shared = self._storage.get_study_system_attrs(self._study_id)
        self._recorded_parents.update(key for key in shared if _PARENTS in key)
        self._register(suggestion.suggester, uid, number)

    def add_open(self, trial: Trial) -> None:
        """Add a trial of the ledger as open, with its recorded parameters.

        One that is outside the space is left out: Optuna refuses other choices of a decision.
        """
        if trial.outside:
            return
        distributions = {name: _distribution(text) for name, text in trial.distributions.items()}
        self._study.enqueue_trial(dict(trial.params))
        opened = self._study.ask(fixed_distributions=distributions)
        self._register(opened, trial.uid, trial.number)
        for key, value in trial.sampler_attrs.items():
            if key.endswith(_GENERATION):
                self._storage.set_trial_system_attr(self._id(opened), key, value)
        for key, numbers in trial.sampler_attrs.get("parents", {}).items():
            ids = [self._optuna_number[n] for n in numbers if n in self._optuna_number]
            if ids:
                self._storage.set_study_system_attr(self._study_id, key, ids)
            self._recorded_parents.add(key)

    def observe(self, trial: Trial) -> None:
        """Ignore measurements before the outcome: Optuna's samplers learn from ended trials."""

    def tell(self, trial: Trial) -> None:
        """Tell Optuna the outcome of an open trial.

        PRUNED trials carry their intermediate values, in multi-objective studies only the last
        ones. Infeasible and diverged trials carry a violated constraint and no value, so that
        samplers avoid them. Samplers ignore FAIL, and so a trial that its user stopped before its
        first measurement.
        """
        opened = self._open.pop(trial.uid, None)
        if opened is None:  # outside the space
            return
        state = optuna.trial.TrialState[trial.state.value]
        if trial.reason == OPERATOR and not trial.measurements:
            state = optuna.trial.TrialState.FAIL
        if trial.reason == "infeasible" and trial.violations and is_feasible(trial):
            state = optuna.trial.TrialState.FAIL  # under bounds that an edit has loosened since
        if trial.reason not in {"infeasible", "diverged"}:
            self._report(opened, trial)
        for name, violation in trial.violations.items():
            opened.set_constraint(name, violation)
        if trial.reason == "diverged":
            opened.set_constraint("diverged", 1.0)
        values = list(trial.values or ()) if trial.state is TrialState.COMPLETE else None
        self._study.tell(opened, values, state=state)
        self._results += state is not optuna.trial.TrialState.FAIL

    def _report(self, opened: optuna.Trial, trial: Trial) -> None:
        """Report a trial's measurements; `Trial.report` raises in multi-objective studies."""
        if len(self._objectives) == 1:
            metric = self._objectives[0].metric
            for measurement in trial.measurements:
                if metric in measurement.metrics:
                    opened.report(measurement.metrics[metric], step=measurement.fidelity)
        elif trial.measurements:
            values = objective_values(self._objectives, trial.measurements[-1].metrics, trial.cost)
            if values is not None:
                opened.set_user_attr(_REACHED, (trial.reached, values))

    def _from_priors(self, number: int, resample: int) -> dict[str, Any] | None:
        """Return a value for every decision that has a prior; None if the priors are ignored."""
        rng = random.Random(derive_seed(self._seed, "prior", number, resample))  # noqa: S311 - not for cryptography
        share = _PRIOR_SHARE / (1 + self._results / _HALF_LIFE)
        if not self._expected or rng.random() >= share:
            return None
        return {name: sample_prior(domain, rng) for name, domain in self._expected.items()}

    def _register(self, opened: optuna.Trial, uid: str, number: int) -> None:
        self._open[uid] = opened
        self._ledger_number[opened.number] = number
        self._optuna_number[number] = opened.number

    def _id(self, trial: optuna.Trial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)
