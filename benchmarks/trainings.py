"""Trainings of fixed candidates, each kept as a line once it has ended: what benchmarks compare."""

import json
import time
from pathlib import Path

from search_spaces.candidate import Candidate
from workers.budget import Budget
from workers.data import DataSpec, SplitSpec, load
from workers.data.dataset import Dataset
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.training.trainer import Trainer

FASHION = DataSpec(
    source="idx",
    path="/usr/share/datasets/fashion-mnist",
    split=SplitSpec(validation=5_000),
    limit=15_000,
)
"""10,000 training and 5,000 validation images."""


class Trainings:
    """Trains what is missing in a file, and remembers the rest."""

    def __init__(self, path: Path, spec: DataSpec) -> None:
        self.path = path
        self.spec = spec
        self._data: Dataset | None = None
        self._kept: dict[tuple[str, int, int], list[dict[str, float]]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                found = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut off in writing: no run
            self._kept[found["digest"], found["seed"], found["epochs"]] = found["seen"]

    def run(self, candidate: Candidate, seed: int, epochs: int) -> list[dict[str, float]]:
        """What every epoch measured, with `epoch_s`, the processor's seconds an epoch."""
        key = candidate.digest, seed, epochs
        if key not in self._kept:
            self._kept[key] = self._train(candidate, seed, epochs)
            named = dict(zip(("digest", "seed", "epochs"), key, strict=True))
            with self.path.open("a") as file:
                file.write(json.dumps({**named, "seen": self._kept[key]}) + "\n")
        return self._kept[key]

    def _train(self, candidate: Candidate, seed: int, epochs: int) -> list[dict[str, float]]:
        self._data = self._data or load(self.spec)
        began = time.process_time()
        _, seen = trained(candidate, self.spec, self._data, seed=seed, epochs=epochs)
        epoch_s = (time.process_time() - began) / epochs
        return [dict(measured.metrics) | {"epoch_s": epoch_s} for measured in seen]


def trained(
    candidate: Candidate, spec: DataSpec, dataset: Dataset, *, seed: int, epochs: int
) -> tuple[Trainer, list[Measurement]]:
    """The trainer after its last epoch, for the caller to inspect, and what each epoch measured."""
    job = TrainingJob(
        key=AttemptKey(trial_uid="0" * 32, number=1, fence="none"),
        trial_number=0,
        candidate=candidate.to_dict(),
        data=spec,
        budget=Budget(maximum=epochs),
        seed=seed,
    )
    trainer = Trainer(job, dataset)
    return trainer, [one for one in trainer.run() if isinstance(one, Measurement)]
