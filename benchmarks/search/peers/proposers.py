"""Peers: proposals of a method and a rule that stops trials, as their authors describe them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import optuna

from benchmarks.search.peers.event_loop import PeerTrial
from benchmarks.search.tables.space import draw_neighbor, draw_uniform
from benchmarks.search.tables.table import Table
from orchestrator.objective import Objective
from orchestrator.sampling.optuna_sampler import OptunaSampler
from orchestrator.trial import Trial, TrialState
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")


class Proposer(Protocol):
    """Proposes candidates from full and partial results."""

    def propose(self, number: int, fixed: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the decisions of a new trial; those of `fixed` if given."""
        ...

    def tell(self, trial: PeerTrial) -> None:
        """Take a trial that is complete or stopped."""
        ...


class Rule(Protocol):
    """Decides at rungs whether trials continue."""

    def promotes(self, trial: PeerTrial) -> bool:
        """Return whether a trial continues beyond the fidelity that it has reached."""
        ...


class StoppingPeer:
    """Proposals that are trained from rung to rung until the rule stops them; first the default."""

    def __init__(
        self, table: Table, proposer: Proposer, rungs: Sequence[int] = (), rule: Rule | None = None
    ) -> None:
        """Prepare a search.

        Args:
            table: The table.
            proposer: Proposes candidates.
            rungs: Fidelities below the top at which the rule decides.
            rule: The rule; None trains every candidate to the top.
        """
        self._proposer = proposer
        self._default = table.space.default_params()
        self._rungs = (*(rung for rung in rungs if rung < table.top), table.top)
        self._rule = rule
        self._trials = 0

    def next(self) -> tuple[PeerTrial, int]:
        """Return a new trial."""
        fixed = self._default if self._trials == 0 else None
        params = self._proposer.propose(self._trials, fixed)
        self._trials += 1
        return PeerTrial(number=self._trials - 1, params=params), self._rungs[0]

    def tell(self, trial: PeerTrial) -> int | None:
        """Return the next rung if the rule promotes the trial."""
        if trial.state != "complete":
            if self._rule is None or self._rule.promotes(trial):
                return next(rung for rung in self._rungs if rung > trial.reached)
            trial.state = "stopped"
        self._proposer.tell(trial)
        return None


class FirstHalving:
    """Halving as this project had it before `auto`: the best third of all that reached the rung.

    The first two pass every rung unjudged; trial 0 is never stopped.
    """

    def __init__(self, factor: int = 3) -> None:
        self._factor = factor
        self._seen: dict[int, list[float]] = {}

    def promotes(self, trial: PeerTrial) -> bool:
        """Return whether the trial is among the best 1 / factor at its rung."""
        seen = self._seen.setdefault(trial.reached, [])
        seen.append(trial.value)
        places = len(seen) // self._factor
        return trial.number == 0 or places == 0 or sum(v > trial.value for v in seen) < places


class RayAsha:
    """Ray's ASHA: at least the upper quantile of the values recorded before; the first passes."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._seen: dict[int, list[float]] = {}

    def promotes(self, trial: PeerTrial) -> bool:
        """Return whether the trial reaches the quantile at its rung."""
        seen = self._seen.setdefault(trial.reached, [])
        cutoff = np.percentile(seen, (1 - 1 / self._factor) * 100) if seen else -np.inf
        seen.append(trial.value)
        return bool(trial.value >= cutoff)


class UniformProposer:
    """Uniform samples."""

    def __init__(self, table: Table, seed: int) -> None:
        self._space = table.space
        self._rng = random.Random(f"uniform {seed}")

    def propose(self, number: int, fixed: Mapping[str, Any] | None) -> dict[str, Any]:  # noqa: ARG002 - as Proposer's
        """Return a uniform sample."""
        return dict(fixed) if fixed else draw_uniform(self._space, self._rng)

    def tell(self, trial: PeerTrial) -> None:
        """Learn nothing."""


class TruthProposer:
    """Hill climbing on true values, up or down: the bounds of the measure."""

    def __init__(self, table: Table, seed: int, *, worst: bool = False) -> None:
        self._table = table
        self._rng = random.Random(f"truth {seed}")
        self._sign = -1 if worst else 1
        self._extreme: dict[str, Any] | None = None

    def propose(self, number: int, fixed: Mapping[str, Any] | None) -> dict[str, Any]:  # noqa: ARG002 - as Proposer's
        """Return the extreme of 50 uniform samples and 50 neighbors of the last extreme."""
        if fixed:
            return dict(fixed)
        points = [draw_uniform(self._table.space, self._rng) for _ in range(50)]
        if self._extreme is not None:
            points += [
                draw_neighbor(self._table.space, self._extreme, self._rng) for _ in range(50)
            ]
        values = self._table.curves(points, [self._table.top])[0][:, 0]
        self._extreme = points[int(np.argmax(self._sign * values))]
        return self._extreme

    def tell(self, trial: PeerTrial) -> None:
        """Learn nothing."""


class EvolutionProposer:
    """Regularized evolution (Real et al., 2019): the best of a sample of the newest has a child."""

    def __init__(
        self, table: Table, seed: int, *, population: int = 10, tournament: int = 4
    ) -> None:
        self._space = table.space
        self._rng = random.Random(f"evolution {seed}")
        self._population = population
        self._tournament = tournament
        self._alive: list[PeerTrial] = []

    def propose(self, number: int, fixed: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return a uniform sample until the population is full, then a child."""
        if fixed:
            return dict(fixed)
        if number < self._population or len(self._alive) < 2:
            return draw_uniform(self._space, self._rng)
        group = self._rng.sample(self._alive, min(self._tournament, len(self._alive)))
        return draw_neighbor(self._space, max(group, key=lambda t: t.value).params, self._rng)

    def tell(self, trial: PeerTrial) -> None:
        """Add to the population; the oldest leaves it."""
        self._alive = [*self._alive, trial][-self._population :]


class OptunaTpe:
    """Optuna's TPE with its defaults; a stopped trial is reported as PRUNED or as COMPLETE."""

    def __init__(self, table: Table, seed: int, *, stopped_as: str = "PRUNED") -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = table.space
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
        )
        self._complete = stopped_as == "COMPLETE"
        self._open: dict[int, optuna.Trial] = {}

    def propose(self, number: int, fixed: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return TPE's next proposal."""
        if fixed:
            self._study.enqueue_trial(dict(fixed))
        trial = self._open[number] = self._study.ask()
        return dict(self._space.resolve(trial).params)

    def tell(self, trial: PeerTrial) -> None:
        """Tell Optuna."""
        opened = self._open.pop(trial.number)
        for fidelity, value in trial.values.items():
            opened.report(value, fidelity)
        if trial.state == "complete" or self._complete:
            self._study.tell(opened, trial.value)
        else:
            self._study.tell(opened, state=optuna.trial.TrialState.PRUNED)


class FirstTpe:
    """TPE with this project's settings before `auto`: grouped, multivariate, with priors."""

    def __init__(self, table: Table, seed: int) -> None:
        space = table.space
        self._space = space
        self._sampler = OptunaSampler(
            sampler="tpe", objectives=[ACCURACY], seed=seed, expected=space.expected()
        )
        self._trials: dict[int, Trial] = {}
        self._digests: set[str] = set()

    def propose(self, number: int, fixed: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the sampler's proposal, sampled again while it is known."""
        for resample in range(11):
            suggestion = self._sampler.sample(number, resample, fixed)
            candidate = self._space.resolve(suggestion.suggester)
            if candidate.digest not in self._digests or resample == 10:
                break
            self._sampler.discard(suggestion)
        self._digests.add(candidate.digest)
        uid = str(number)
        self._sampler.keep(suggestion, uid, number)
        self._trials[number] = Trial(
            number=number,
            uid=uid,
            params=suggestion.params,
            distributions=suggestion.distributions,
            candidate={},
            digest=candidate.digest,
            seed=0,
        )
        return dict(candidate.params)

    def tell(self, trial: PeerTrial) -> None:
        """Tell the sampler the outcome with its measurements."""
        seen = tuple(
            Measurement(fidelity=fidelity, metrics={"val_accuracy": value}, elapsed_s=0.0)
            for fidelity, value in trial.values.items()
        )
        complete = trial.state == "complete"
        self._sampler.tell(
            replace(
                self._trials.pop(trial.number),
                measurements=seen,
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                reason=None if complete else "rung",
                values=(trial.value,) if complete else None,
            )
        )
