"""Record full trainings of the built-in spaces on small data sets: the truth of our own tables.

    make record                   # or python -m benchmarks.search.recordings.record --until 150

Square numbers are the default with other seeds, so that its noise is known early. Of the others,
47 % are uniform samples, 11 % samples from the priors, and 42 % mutations of one of the best so
far. A run continues the recordings that exist, in rounds over the data sets.
"""

import argparse
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.search.data.datasets import DATA, prepare
from benchmarks.search.recordings import store
from benchmarks.search.recordings.store import Recording
from benchmarks.search.tables.space import Params, draw_neighbor, draw_prior, draw_uniform
from search_spaces.catalog import load as load_space
from search_spaces.catalog.task_fit import fit_to_task
from search_spaces.cost import Cost, cost
from search_spaces.domains.suggester import ReplaySuggester
from search_spaces.errors import ArchscoutError
from workers.budget import Budget
from workers.data import Dataset, load
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.run_job import run_job

EPOCHS = 9
KINDS = {"uniform": 0.47, "prior": 0.11, "mutation": 0.42}
"""Share of each kind among the candidates that are not the default."""
CHANGES = (1, 2, 4, 8)
"""Numbers of changed decisions of a mutation, equally likely."""
PARENTS = 6
"""Number of best candidates that are mutated."""
EXPENSIVE, MAX_FLOPS, EXPENSIVE_SHARE = 2.5, 6.0, 0.5
"""Of candidates above 2.5 times the FLOPs of the default, half are kept; above 6, none."""
ROUNDS = (10, 40, 80, 150)
"""Numbers of recordings after which the next data set follows."""


class CandidateProposal(NamedTuple):
    """A candidate to be trained."""

    kind: str
    parent: int | None
    params: Params
    cost: Cost


class Recorder:
    """Records trainings on one data set.

    Examples:
        >>> recorder = Recorder("table", Path("results"), Path("data"))
        >>> recorder.record(recorder.propose(0, known=[]), 0)
    """

    def __init__(self, name: str, results: Path, data: Path) -> None:
        self.name = name
        self.results = results
        space, self.spec = prepare(name, data)
        self.dataset = load(self.spec)
        self.space = fit_to_task(load_space(space), self.dataset.task)
        self._default_cost = self._cost(self.space.default_params())

    def propose(self, number: int, known: Sequence[Recording]) -> CandidateProposal:
        """Return the candidate of this number, given earlier recordings."""
        rng = random.Random(f"{self.name} {number}")
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if math.isqrt(number) ** 2 == number:
            kind = "default"
        best = sorted(known, key=lambda each: -each.final)[:PARENTS]
        parent = rng.choice(best) if kind == "mutation" and best else None
        while True:
            params = self._draw(kind, parent, rng)
            counted = self._cost(params)
            ratio = counted.flops / self._default_cost.flops
            keep = ratio <= EXPENSIVE or (ratio <= MAX_FLOPS and rng.random() < EXPENSIVE_SHARE)
            if keep or kind == "default":
                return CandidateProposal(kind, parent and parent.number, params, counted)

    def _draw(self, kind: str, parent: Recording | None, rng: random.Random) -> dict[str, Any]:
        if kind == "default":
            return self.space.default_params()
        if kind == "prior":
            return draw_prior(self.space, rng)
        if parent is None:
            return draw_uniform(self.space, rng)
        return draw_neighbor(self.space, parent.params, rng, changes=rng.choice(CHANGES))

    def _cost(self, params: Params) -> Cost:
        return cost(self.space.resolve(ReplaySuggester(params)).architecture, self.dataset.task)

    def record(self, proposal: CandidateProposal, number: int) -> Recording:
        """Train a candidate with the product's trainer, and keep every epoch."""
        candidate = self.space.resolve(ReplaySuggester(proposal.params))
        job = TrainingJob(
            key=AttemptKey(trial_uid="0" * 32, number=1, fence=""),
            trial_number=number,
            candidate=candidate.to_dict(),
            data=self.spec,
            budget=Budget(maximum=EPOCHS),
            seed=number,
        )
        metrics, cpu_s, outcome = measure(job, self.dataset)
        recording = Recording(
            number=number,
            kind=proposal.kind,
            parent=proposal.parent,
            space=f"{self.space.name} {self.space.version}",
            params=proposal.params,
            seed=number,
            flops=proposal.cost.flops,
            parameters=proposal.cost.parameters,
            metrics=metrics,
            cpu_s=cpu_s,
            outcome=outcome,
        )
        store.add(self.name, [recording], self.results)
        return recording


def measure(job: TrainingJob, dataset: Dataset) -> tuple[dict[str, list[float]], list[float], str]:
    """Return metrics and CPU seconds after each epoch, and how the training ended."""
    metrics: dict[str, list[float]] = {}
    cpu_s: list[float] = []
    began = time.thread_time()
    try:
        for step in run_job(job, dataset):
            if isinstance(step, Measurement):
                cpu_s.append(round(time.thread_time() - began, 3))
                for name, value in step.metrics.items():
                    metrics.setdefault(name, []).append(float(f"{value:.5g}"))
    except ArchscoutError as error:
        return metrics, cpu_s, type(error).__name__
    return metrics, cpu_s, store.COMPLETE


def next_number(known: Sequence[Recording], shard: int, shards: int) -> int:
    """Return the lowest number of this shard that is not recorded."""
    numbers = {each.number for each in known}
    number = shard
    while number in numbers:
        number += shards
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--until", type=int, default=150, help="recordings of each data set")
    parser.add_argument("--hours", type=float, default=24.0, help="start none after this time")
    parser.add_argument("--names", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--shard", default="0/1", help="I/N: records numbers I, I+N, I+2N, ...")
    parser.add_argument("--results", type=Path, default=store.FOLDER)
    parser.add_argument("--data", type=Path, default=Path("recordings"))
    given = parser.parse_args(arguments)
    shard, shards = map(int, given.shard.split("/"))
    torch.set_num_threads(1)
    end = time.monotonic() + 3600 * given.hours
    for target in sorted({*(r for r in ROUNDS if r < given.until), given.until}):
        for name in given.names:
            recorder = Recorder(name, given.results, given.data)
            while time.monotonic() < end:
                known = store.read(name, given.results)
                number = next_number(known, shard, shards)
                if number >= target:
                    break
                made = recorder.record(recorder.propose(number, known), number)
                seconds = made.cpu_s[-1] if made.cpu_s else 0.0
                print(
                    f"{name} {number} {made.kind}: {made.outcome}, {made.final:.3f}, "
                    f"{made.flops / 1e6:.1f} MFLOPs, {seconds:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
