"""Sampling: Optuna, in memory, over what the ledger holds.

The one module that knows how Optuna is asked and told. It keeps nothing: it is rebuilt from the
ledger's trials at each start, and every draw is seeded by (study seed, trial number, redraw) on a
sampler built for it, so that a resumed study draws what the uninterrupted one would have drawn.
"""

import hashlib
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler

from orchestrator.objective import Objective
from orchestrator.trial import Trial, TrialState
from search_spaces.priors import Expected
from search_spaces.priors import draw as draw_expected

MAX_REDRAWS = 10
"""How often a duplicate is drawn again."""

_STARTUP_TRIALS = 10
_TRUST = 0.5
"""The share of the first proposals that follows the space's priors."""
_HALVED_BY = 5
"""Results that halve this share; it goes on falling as one over their number, after piBO (Hvarfner
et al. 2022): what was seen outweighs what was expected."""
T = TypeVar("T")

_NAME = "study"
_PARENTS = ":parent:"
_GENERATION = ":generation"

_SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(
        seed=seed,
        multivariate=True,
        group=True,
        constant_liar=True,
        n_startup_trials=_STARTUP_TRIALS,
    ),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(seed=seed, population_size=20),
    "gp": lambda seed: optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=_STARTUP_TRIALS, warn_independent_sampling=False
    ),
}


def derive_seed(*parts: int | str) -> int:
    """A seed of 32 bits that depends on every part and on nothing else."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


class Draw:
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


class Proposer:
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
        self._build = _SAMPLERS[sampler]
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
        """Enters the ledger's trials, by number; unfinished ones become open."""
        for trial in sorted(trials, key=lambda t: t.number):
            if trial.reason == "duplicate":
                continue
            self.reopen(trial)
            if trial.state.is_terminal:
                self.conclude(trial)

    def draw(self, number: int, redraw: int, given: Mapping[str, Any] | None = None) -> Draw:
        """The proposal for a trial number; the same one for the same history, always.

        What is `given`, by name, is taken as it is; the sampler decides the rest. Where nothing is
        given, some proposals take all decisions that have a prior from there, the fewer the more
        results there are. Decisions drawn for a branch that is not taken are never asked for.

        From the middle of the redraws on the proposal is drawn uniformly: a model that keeps
        proposing what is known would not find the last untried candidates of a small space.
        """
        uniformly = redraw > MAX_REDRAWS // 2
        build = _SAMPLERS["random"] if uniformly else self._build
        self._study.sampler = _quietly(build, derive_seed(self._seed, "draw", number, redraw))
        if given is None and not uniformly:
            given = self._from_priors(number, redraw)
        if given is not None:
            self._study.enqueue_trial(dict(given))
        return Draw(_quietly(self._study.ask))

    def drop(self, draw: Draw) -> None:
        """Forgets a draw that does not become a trial; as FAIL it teaches the sampler nothing."""
        self._study.tell(draw.suggester, state=optuna.trial.TrialState.FAIL)

    def attributes(self, draw: Draw) -> dict[str, Any]:
        """What the sampler needs to find again with this trial after a restart: generations."""
        own = self._storage.get_trial(self._id(draw.suggester)).system_attrs
        shared = self._storage.get_study_system_attrs(self._study_id)
        parents = {
            key: [self._ledger_number[number] for number in numbers]
            for key, numbers in shared.items()
            if _PARENTS in key and key not in self._recorded_parents
        }
        self._recorded_parents.update(parents)
        kept: dict[str, Any] = {k: v for k, v in own.items() if k.endswith(_GENERATION)}
        return {**kept, **({"parents": parents} if parents else {})}

    def keep(self, draw: Draw, uid: str, number: int) -> None:
        """The draw has become a trial of the ledger, open until concluded."""
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

        PRUNED ones carry the steps they reported, infeasible and diverged ones a violated
        constraint and no value: the sampler learns where not to go. FAIL teaches it nothing.
        """
        opened = self._open.pop(trial.uid)
        state = optuna.trial.TrialState[trial.state.value]
        lesson = trial.reason not in {"infeasible", "diverged"}
        if lesson and len(self._objectives) == 1:  # Trial.report raises with several objectives
            metric = self._objectives[0].metric
            for seen in trial.measurements:
                if metric in seen.metrics:
                    opened.report(seen.metrics[metric], step=seen.fidelity)
        for name, violation in trial.violations.items():
            opened.set_constraint(name, violation)
        if trial.reason == "diverged":
            opened.set_constraint("diverged", 1.0)
        values = list(trial.values or ()) if trial.state is TrialState.COMPLETE else None
        self._study.tell(opened, values, state=state)
        self._results += trial.state is not TrialState.FAIL

    def _from_priors(self, number: int, redraw: int) -> dict[str, Any] | None:
        """Every decision that has a prior, drawn from it; None for a proposal that ignores them."""
        chance = random.Random(derive_seed(self._seed, "prior", number, redraw))  # noqa: S311
        share = _TRUST / (1 + self._results / _HALVED_BY)
        if not self._expected or chance.random() >= share:
            return None
        return {name: draw_expected(domain, chance) for name, domain in self._expected.items()}

    def _enter(self, opened: optuna.Trial, uid: str, number: int) -> None:
        self._open[uid] = opened
        self._ledger_number[opened.number] = number
        self._optuna_number[number] = opened.number

    def _id(self, trial: optuna.Trial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _quietly(call: Callable[..., T], *args: Any) -> T:
    """Calls Optuna where it warns that `group` and NSGA-III are experimental: known, and pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return call(*args)
