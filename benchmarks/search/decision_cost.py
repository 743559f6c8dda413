"""Cost of a proposal: CPU time of the sampler `auto` in space `hybrid`, by its history.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.search.decision_cost [--trials 100 1000 5000]
        [--source 100]

The history is made up: uniform samples whose scores depend on their decisions, a third of them
complete and two thirds stopped at a rung, with a constraint and predictions from the clock, so that
three models are fitted. Between two proposals one trial ends, as in a study; eight trials are open.
`--source` adds an earlier study on other data, of so many trials, that ranks candidates alike.
What was loaded before is out of garbage collections, as in a study.
"""

import argparse
import random
import statistics
import time

from orchestrator.objective import Objective
from orchestrator.run import loaded_objects_frozen
from orchestrator.sampling.auto_sampler import AutoSampler, AutoSuggestion
from orchestrator.sampling.mutation import MutatingSuggester
from orchestrator.sampling.transfer.source_model import SourceModel, SourceStudy
from orchestrator.trial import Trial, TrialState
from search_spaces.catalog import load
from search_spaces.space import Constraint, SearchSpace
from workers.budget import Budget
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
BUDGET = Budget(minimum=1, maximum=9)
OPEN = 8
WARM_UP = 10
"""Proposals that are not measured: the first ones load libraries."""


def trial_of(suggestion: AutoSuggestion, number: int) -> Trial:
    """Return an ended trial with made-up results."""
    params, rng = suggestion.params, random.Random(number)
    score = statistics.fmean(hash_of(name, value) for name, value in params.items())
    complete = number % 3 == 0
    measurements = tuple(
        Measurement(
            fidelity=epoch,
            metrics={"val_accuracy": score * epoch / 9 + rng.gauss(0, 0.01)},
            elapsed_s=epoch * len(params) * rng.uniform(0.9, 1.1),
        )
        for epoch in range(1, 10 if complete else 4)
    )
    return Trial(
        number=number,
        uid=f"{number:032x}",
        params=params,
        distributions=suggestion.distributions,
        candidate={},
        digest=f"{number:064x}",
        seed=number,
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        reason=None if complete else "rung",
        values=(score,) if complete else None,
        measurements=measurements,
        cost={"flops": 1e6 * len(params), "parameters": 2e4 * len(params)},
    )


def hash_of(name: str, value: object) -> float:
    """Return a number in [0, 1) that depends on a decision alone."""
    return random.Random(f"{name}={value}").random()


def uniform_trials(space: SearchSpace, first: int, count: int) -> list[Trial]:
    """Return ended trials of uniform samples, numbered from `first`."""
    trials = []
    for number in range(first, first + count):
        suggestion = AutoSuggestion(MutatingSuggester({}, (), random.Random(number)))
        space.resolve(suggestion.suggester)
        trials.append(trial_of(suggestion, number))
    return trials


def measure(space: SearchSpace, trials: int, proposals: int, source: int = 0) -> list[float]:
    """Return the CPU time of each proposal in milliseconds.

    Args:
        space: The space.
        trials: Length of the history.
        proposals: Number of proposals.
        source: Number of trials of an earlier study on other data; 0 is without one.
    """
    earlier = SourceStudy(
        name="earlier", budget=BUDGET, trials=uniform_trials(space, 1_000_000, source)
    )
    sampler = AutoSampler(
        space=space,
        objectives=(ACCURACY,),
        budget=BUDGET,
        seed=0,
        constraints=(Constraint(metric="parameters", at_most=1e6),),
        predict_from_clock=True,
        sources=[SourceModel(earlier, (ACCURACY,))] if source else [],
    )
    for trial in uniform_trials(space, 0, trials):
        sampler.add_open(trial)
    times, kept = [], []
    for number in range(trials, trials + WARM_UP + proposals):
        began = time.thread_time()
        suggestion = sampler.sample(number, 0)
        times.append(1e3 * (time.thread_time() - began))
        kept.append(trial_of(suggestion, number))
        sampler.keep(suggestion, kept[-1].uid, number)
        if len(kept) > OPEN:
            sampler.tell(kept[-1 - OPEN])
    return times[WARM_UP:]


def main() -> None:
    """Print a line for each length of the history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--proposals", type=int, default=200)
    parser.add_argument("--source", type=int, default=0)
    options = parser.parse_args()
    space = load("hybrid")
    for trials in options.trials:
        with loaded_objects_frozen():
            times = measure(space, trials, options.proposals, options.source)
        p99 = statistics.quantiles(times, n=100)[-1]
        print(f"{trials:6,} trials: median {statistics.median(times):.1f} ms, p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
