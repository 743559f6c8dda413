"""Confirmed studies in simulated time: how often noise is called a gain, how often one is found.

    python -m benchmarks.search.confirmed --studies 100

Each study is searched and confirmed by the product's code. Candidates equal the default, or are all
better by a number of standard deviations of one training.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from benchmarks.search.ours import simulate
from benchmarks.search.tables.closed_form import noise_only
from benchmarks.search.tables.table import Noise, Table
from orchestrator.confirmation.answer import Answer, answer
from orchestrator.confirmation.plan import KIND
from orchestrator.objective import Objective
from workers.data.dataset import Dataset
from workers.job import TrainingJob
from workers.measurement import Measurement

OBJECTIVES = (Objective(metric="val_accuracy", direction="maximize"),)
TRIALS = 20
WORKERS = 8
GAINS = (0.0, 1.0, 2.0, 3.0)


def standard_deviation(noise: Noise) -> float:
    """Return the standard deviation of a final value over seeds."""
    return float(np.hypot(noise.candidate, noise.epoch))


class SeededWorker:
    """Worker whose noise depends on the seed of each trial."""

    def __init__(self, table: Table, gain: float) -> None:
        """Prepare a worker.

        Args:
            table: Curves of the candidates, all equal.
            gain: Gain of every candidate but the default.
        """
        self._table = table
        self._gain = gain
        self.truths: dict[int, float] = {}
        """True final value of each started trial, by number."""

    def __call__(self, job: TrainingJob, _dataset: Dataset) -> Iterator[Measurement]:
        """Yield a measurement at every fidelity."""
        params = job.candidate["decisions"]
        seen = self._table.observe(params, job.seed)
        gain = 0.0 if params == self._table.space.default_params() else self._gain
        self.truths[job.trial_number] = seen.truth + gain
        for fidelity in self._table.fidelities:
            yield Measurement(
                fidelity=fidelity,
                metrics={"val_accuracy": min(1.0, seen.value_at(fidelity) + gain)},
                elapsed_s=seen.seconds_at(fidelity),
            )


def confirm(table: Table, *, gain: float, seed: int, seeds: int = 10) -> tuple[Answer, int]:
    """Return the answer of one simulated study, and the number of its confirmations.

    Args:
        table: Curves of the candidates, all equal.
        gain: Gain of every candidate but the default, in standard deviations of one training.
        seed: Seed of the study.
        seeds: Maximum number of seeds of the confirmation.
    """
    keys = {
        "sampler": {"name": "random"},
        "budget": {"minimum": 1, "maximum": table.top},
        "stop": {"trials": TRIALS},
        "confirm": {"top": 3, "seeds": seeds},
    }
    worker = SeededWorker(table, gain * standard_deviation(table.noise))
    trials = simulate(table, worker, workers=WORKERS, units=1.0, seed=seed, keys=keys)
    found = answer("simulated", trials, OBJECTIVES)
    return found, sum(trial.kind == KIND for trial in trials)


def main() -> None:
    """Print the share of studies with a winner, by true gain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    studies = parser.parse_args().studies
    table = noise_only()
    print("| true gain, standard deviations | studies with a winner | trainings |\n|--|--|--|")
    for gain in GAINS:
        results = [confirm(table, gain=gain, seed=seed) for seed in range(studies)]
        winners = sum(found.winner is not None for found, _ in results)
        trainings = sum(count for _, count in results) / studies
        print(f"| {gain:g} | {winners} of {studies} | {trainings:.1f} |", flush=True)


if __name__ == "__main__":
    main()
