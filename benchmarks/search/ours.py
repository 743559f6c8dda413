"""Our search in simulated time: the product's driver, sampler, pruner and ledger."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from benchmarks.search.engine import SimulatedClock, SimulatedEngine
from benchmarks.search.runs import Ended, Run, summarize
from benchmarks.search.tables.table import Table, TableWorker
from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Holder, Ledger
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import Trial, TrialState
from search_spaces.task import Task
from workers.data.dataset import Dataset
from workers.job import TrainingJob
from workers.measurement import Measurement
from workers.storage import LocalFolder

SHARED_MEMORY = Path("/dev/shm")
"""A file system in memory, where syncing costs nothing."""
LEDGER = "ledger.db"
NO_DATA = Dataset.__new__(Dataset)
"""The data set of a table, which needs none."""


def run_study(
    table: Table,
    *,
    method: str,
    workers: int,
    units: float,
    seed: int,
    keys: Mapping[str, Any],
    earlier: Path | None = None,
) -> Run:
    """Search a table with the product's code.

    Args:
        table: The table.
        method: Name of the method in the results.
        workers: Trials at the same time.
        units: Limit of compute, in full trainings of median cost over all workers.
        seed: Seed of the study and of the table's noise.
        keys: Keys of study.yaml, such as sampler, pruner and budget.
        earlier: Ledger of earlier studies, which is copied; None starts with an empty one.
    """
    began = time.process_time()
    worker = TableWorker(table, seed)
    config = study_config(table, workers=workers, units=units, seed=seed, keys=keys)
    with scratch_folder() as folder:
        if earlier is not None:
            shutil.copy(earlier, folder / LEDGER)
        trials = search_in(folder, table, worker, config, workers=workers, clock=SimulatedClock())
    return summarize(
        method,
        table,
        [_ended(trial, worker.truths[trial.number]) for trial in trials],
        workers=workers,
        units=units,
        seed=seed,
        cpu_s=time.process_time() - began,
    )


class TruthfulWorker(Protocol):
    """Worker that keeps the truth about each trial it starts."""

    truths: dict[int, float]

    def __call__(self, job: TrainingJob, dataset: Dataset, /) -> Iterator[Measurement]:
        """Yield the measurements of an attempt."""
        ...


def simulate(
    table: Table,
    worker: TruthfulWorker,
    *,
    workers: int,
    units: float,
    seed: int,
    keys: Mapping[str, Any],
) -> list[Trial]:
    """Return the trained trials of a study in simulated time, by number."""
    config = study_config(table, workers=workers, units=units, seed=seed, keys=keys)
    with scratch_folder() as folder:
        return search_in(folder, table, worker, config, workers=workers, clock=SimulatedClock())


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder for one search, in memory if possible."""
    memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="archscout-", dir=memory) as folder:
        yield Path(folder)


def search_in(
    folder: Path,
    table: Table,
    worker: TruthfulWorker,
    config: StudyConfig,
    *,
    workers: int,
    clock: SimulatedClock,
) -> list[Trial]:
    """Return the trained trials of a study whose ledger is in a folder, by number."""
    with Ledger.open(folder / LEDGER, clock=clock) as ledger:
        row, lease = ledger.open_study(
            name=config.name,
            config_json=config.canonical_json(),
            space_name=table.space.name,
            space_version=table.space.version,
            data_digest=table.name,
            holder=Holder.of_this_process(),
        )
        # Without `with`: heartbeats belong to real time.
        driver = StudyDriver(
            record=row,
            config=config,
            ledger=ledger,
            lease=lease,
            space=table.space,  # type: ignore[arg-type] - has the methods of a SearchSpace
            task=Task(inputs={"table": (1,)}, num_classes=max(2, round(1 / table.chance))),
            checkpoints_dir=LocalFolder(folder),
            clock=clock,
        )
        SimulatedEngine(worker, clock, workers=workers).run(driver, NO_DATA)
        if driver.abort_reason:
            raise RuntimeError(f"{table.name}, seed {config.seed}: {driver.abort_reason}")
        return [trial for trial in driver.trials if trial.number in worker.truths]


def study_config(
    table: Table, *, workers: int, units: float, seed: int, keys: Mapping[str, Any]
) -> StudyConfig:
    """Return the config of a study on a table."""
    hours = units * table.landscape.unit_s / workers / 3600
    base = {
        "name": "simulated",
        "space": table.space.name,
        "budget": {"maximum": table.top},
        "stop": {"hours": hours},
        "engine": {"name": "in_process"},
        "resources": {"gpu": 0},
        "seed": seed,
    }
    return StudyConfig.model_validate(base | dict(keys))


def _ended(trial: Trial, truth: float) -> Ended:
    complete = trial.state is TrialState.COMPLETE
    return Ended(
        number=trial.number,
        at_s=trial.ended if complete else None,
        value=trial.values[0] if complete and trial.values else None,
        truth=truth,
    )
