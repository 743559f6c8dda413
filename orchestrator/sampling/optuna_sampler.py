"""Sampling: Optuna, in memory, over what the ledger holds.

The one module that knows how Optuna is asked and told. It keeps nothing: it is rebuilt from the
ledger's trials at each start, and every draw is seeded by (study seed, trial number, redraw) on a
sampler built for it, so that a resumed study draws what the uninterrupted one would have drawn.
"""

import hashlib
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

from orchestrator.objective import Objective, objective_values, pareto_order
from orchestrator.trial import Trial, TrialState
from search_spaces.domains.priors import Expected, sample_prior

MAX_RESAMPLES = 10
"""How often a duplicate is drawn again."""

_STARTUP_TRIALS = 10
_POPULATION = 20
COMPLETE_TO_LEARN = {"nsga2": 2 * _POPULATION, "nsga3": 2 * _POPULATION, "gp": _STARTUP_TRIALS + 1}
"""Complete trials without which a sampler proposes by chance alone, or nearly so: two generations,
or more than its random beginnings. TPE learns from stopped trials too."""
_PRIOR_SHARE = 0.5
"""The share of the first proposals that follows the space's priors."""
_HALVED_BY = 5
"""Results that halve this share; it goes on falling as one over their number, after piBO (Hvarfner
et al. 2022): what was seen outweighs what was expected."""

_NAME = "study"
_PARENTS = ":parent:"
_GENERATION = ":generation"

_REACHED = "reached"
"""User attribute of a stopped trial in a study of several objectives: its last step and values."""
_GOOD_SHARE = 0.1
"""Share of the finished trials that TPE takes for good where there are several objectives."""


class _ParetoTPESampler(optuna.samplers.TPESampler):
    """TPE for several objectives, to which stopped trials count by the values they have shown.

    Optuna lets a trial report nothing in a study of several objectives, so its own TPE takes all
    stopped trials for equal and worst. This one orders them as Optuna does for one objective, the
    further trained first, and by non-domination among trials that were trained as far.

    One sampler serves one draw: good and bad trials are told apart once for all its decisions.
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
    """Split trials as TPE does: the best tenth, and the rest with those that still run."""
    states = optuna.trial.TrialState
    running = [t for t in trials if t.state is states.RUNNING]
    by_step: dict[float, list[tuple[tuple[float, ...], FrozenTrial]]] = defaultdict(list)
    for trial in trials:
        if trial.state in {states.COMPLETE, states.PRUNED}:
            step, scores = _merit(trial, directions)
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


def _merit(
    trial: FrozenTrial, directions: Sequence[StudyDirection]
) -> tuple[float, tuple[float, ...]]:
    """How far a finished trial came, and its scores among those that came as far.

    Complete trials lead; stopped ones follow by their last step, then those that showed nothing,
    and the infeasible ones by how much they violate.
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
    "tpe of several objectives": lambda seed: _ParetoTPESampler(seed=seed, **_TPE),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(seed=seed, population_size=_POPULATION),
    "gp": lambda seed: optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=_STARTUP_TRIALS, warn_independent_sampling=False
    ),
}


def derive_seed(*parts: int | str) -> int:
    """A seed of 32 bits that depends on every part and on nothing else."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


class OptunaDraw:
    """One proposal being made: a suggester that remembers what it answered."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.suggester = trial
        """Asks Optuna; resolve the space with it."""

    @property
    def params(self) -> dict[str, Any]:
        """What was decided, by name."""
        return dict(self.suggester.params)

    @property
    def distributions(self) -> dict[str, str]:
        """Optuna's JSON of each decision's distribution, by name."""
        return {k: distribution_to_json(d) for k, d in self.suggester.distributions.items()}


class OptunaSampler:
    """One study's history as Optuna sees it, and the next proposal drawn from it.

    A trial is *open* from its proposal to its conclusion; open ones count as pending, so that
    parallel proposals keep apart. Numbers in Optuna's memory differ from the ledger's, for
    dropped draws take one too.
    """

    def __init__(
        self,
        *,
        sampler: str,
        objectives: Sequence[Objective],
        seed: int,
        expected: Mapping[str, Expected] | None = None,
    ) -> None:
        """Starts with an empty history.

        Args:
            sampler: One of `tpe`, `random`, `nsga2`, `nsga3`, `gp`.
            objectives: What is made better; their directions are told to Optuna.
            seed: The study's.
            expected: The decisions that have a prior, by name.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it greets every study otherwise
        # `group` and NSGA-III are experimental: known, and pinned. Set once, for draws run in
        # threads, where `warnings.catch_warnings` may lose filters.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        several = sampler == "tpe" and len(objectives) > 1
        self._build = _SAMPLERS["tpe of several objectives" if several else sampler]
        self._objectives = tuple(objectives)
        self.seed = seed
        """The study's seed."""
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
        """Enters the ledger's trials, by number; unfinished ones become open."""
        for trial in sorted(trials, key=lambda t: t.number):
            if trial.reason == "duplicate":
                continue
            self.reopen(trial)
            if trial.state.is_terminal:
                self.conclude(trial)

    def draw(self, number: int, redraw: int, given: Mapping[str, Any] | None = None) -> OptunaDraw:
        """The proposal for a trial number; the same one for the same history, always.

        What is `given`, by name, is taken as it is; the sampler decides the rest. Where nothing is
        given, some proposals take all decisions that have a prior from there, the fewer the more
        results there are. Decisions drawn for a branch that is not taken are never asked for.

        From the middle of the redraws on the proposal is drawn uniformly: a model that keeps
        proposing what is known would not find the last untried candidates of a small space.
        """
        uniformly = redraw > MAX_RESAMPLES // 2
        build = _SAMPLERS["random"] if uniformly else self._build
        self._study.sampler = build(derive_seed(self.seed, "draw", number, redraw))
        if given is None and not uniformly:
            given = self._from_priors(number, redraw)
        if given is not None:
            self._study.enqueue_trial(dict(given))
        return OptunaDraw(self._study.ask())

    def drop(self, draw: OptunaDraw) -> None:
        """Forgets a draw that does not become a trial; as FAIL it teaches the sampler nothing."""
        self._study.tell(draw.suggester, state=optuna.trial.TrialState.FAIL)

    def attributes(self, draw: OptunaDraw) -> dict[str, Any]:
        """What the sampler needs to find again with this trial after a restart: generations."""
        own = self._storage.get_trial(self._id(draw.suggester)).system_attrs
        shared = self._storage.get_study_system_attrs(self._study_id)
        parents = {
            key: [self._ledger_number[number] for number in numbers]
            for key, numbers in shared.items()
            if _PARENTS in key and key not in self._recorded_parents
        }
        kept: dict[str, Any] = {k: v for k, v in own.items() if k.endswith(_GENERATION)}
        return {**kept, **({"parents": parents} if parents else {})}

    def keep(self, draw: OptunaDraw, uid: str, number: int) -> None:
        """The draw has become a trial of the ledger, open until concluded."""
        shared = self._storage.get_study_system_attrs(self._study_id)
        self._recorded_parents.update(key for key in shared if _PARENTS in key)
        self._enter(draw.suggester, uid, number)

    def reopen(self, trial: Trial) -> None:
        """Enters a trial of the ledger as open, with the decisions it was made of."""
        distributions = {name: _distribution(text) for name, text in trial.distributions.items()}
        self._study.enqueue_trial(dict(trial.params))
        opened = self._study.ask(fixed_distributions=distributions)
        self._enter(opened, trial.uid, trial.number)
        for key, value in trial.sampler_attrs.items():
            if key != "parents":
                self._storage.set_trial_system_attr(self._id(opened), key, value)
        for key, numbers in trial.sampler_attrs.get("parents", {}).items():
            ids = [self._optuna_number[number] for number in numbers]
            self._storage.set_study_system_attr(self._study_id, key, ids)
            self._recorded_parents.add(key)

    def conclude(self, trial: Trial) -> None:
        """Tells how an open trial has ended.

        PRUNED ones carry the steps they reported, with several objectives the values of the last
        one; infeasible and diverged ones a violated constraint and no value: the sampler learns
        where not to go. FAIL teaches it nothing.
        """
        opened = self._open.pop(trial.uid)
        state = optuna.trial.TrialState[trial.state.value]
        if trial.reason not in {"infeasible", "diverged"}:
            self._report(opened, trial)
        for name, violation in trial.violations.items():
            opened.set_constraint(name, violation)
        if trial.reason == "diverged":
            opened.set_constraint("diverged", 1.0)
        values = list(trial.values or ()) if trial.state is TrialState.COMPLETE else None
        self._study.tell(opened, values, state=state)
        self._results += trial.state is not TrialState.FAIL

    def _report(self, opened: optuna.Trial, trial: Trial) -> None:
        """Tells what was measured of a trial; Trial.report raises with several objectives."""
        if len(self._objectives) == 1:
            metric = self._objectives[0].metric
            for seen in trial.measurements:
                if metric in seen.metrics:
                    opened.report(seen.metrics[metric], step=seen.fidelity)
        elif trial.measurements:
            values = objective_values(self._objectives, trial.measurements[-1].metrics, trial.cost)
            if values is not None:
                opened.set_user_attr(_REACHED, (trial.reached, values))

    def _from_priors(self, number: int, redraw: int) -> dict[str, Any] | None:
        """Every decision that has a prior, drawn from it; None for a proposal that ignores them."""
        chance = random.Random(derive_seed(self.seed, "prior", number, redraw))  # noqa: S311
        share = _PRIOR_SHARE / (1 + self._results / _HALVED_BY)
        if not self._expected or chance.random() >= share:
            return None
        return {name: sample_prior(domain, chance) for name, domain in self._expected.items()}

    def _enter(self, opened: optuna.Trial, uid: str, number: int) -> None:
        self._open[uid] = opened
        self._ledger_number[opened.number] = number
        self._optuna_number[number] = opened.number

    def _id(self, trial: optuna.Trial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)
