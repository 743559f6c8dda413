"""Search and train for real in the checkout that PYTHONPATH names; one request, one process.

    PYTHONPATH=CHECKOUT python benchmarks/search/real/process.py REQUEST.json

Imports only what earlier versions have as well, so that today's search and an earlier one are
measured by one program. Budgets are counted in epochs: the load of the machine changes nothing.
Prints one JSON document a line.
"""

import json
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch

from orchestrator.config.schema import StudyConfig
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.ledger import Holder, Ledger
from orchestrator.sampling.duplicates import digest_of
from orchestrator.sampling.screening import screen
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import Trial, TrialState
from search_spaces import catalog
from search_spaces.candidate import Candidate, candidate_from_dict
from search_spaces.catalog.task_fit import fit_to_task
from search_spaces.domains import Const, Record
from search_spaces.space import Constraint, SearchSpace
from workers.budget import Budget
from workers.data import Dataset, DataSpec, SplitSpec, load
from workers.failures import BadCandidateError, DivergedError
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement, Progress
from workers.run_job import run_job
from workers.storage import LocalFolder
from workers.training.batches import on_device
from workers.training.evaluate import MetricAccumulator, evaluate
from workers.training.trainer import Trainer

HALVES = {"network": ("losses",), "weights": ("architecture", "recipe"), "both": ()}
"""Parts of a candidate that stay at their default, by the half that is searched."""


class EpochBudget:
    """Counts the epochs of a search, and requests its stop at the last one."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.used = 0
        self.stop: Callable[[], object] = lambda: None

    @property
    def spent(self) -> bool:
        """True if no epoch is left."""
        return self.used >= self.maximum

    def run_job(self, job: TrainingJob, dataset: Dataset) -> Iterator[Measurement | Progress]:
        """Train a job as `workers.run_job` does, and count its epochs."""
        for step in run_job(job, dataset):
            if isinstance(step, Measurement):
                self.used += 1
                if self.spent:
                    self.stop()
            yield step


def data_spec(plain: dict[str, Any]) -> DataSpec:
    """Return the data that a request names."""
    return DataSpec(**{**plain, "split": SplitSpec(**plain["split"])})


def open_space(name: str, dataset: Dataset, half: str = "both") -> SearchSpace:
    """Return a built-in space for the data, with one half of its decisions at their default."""
    space = fit_to_task(catalog.load(name), dataset.task)
    domain, default = space.candidates, space.default()
    if not isinstance(domain, Record):
        raise TypeError(f"space {name} is no record")
    fixed = {part: Const(getattr(default, part)) for part in HALVES[half]}
    return replace(space, candidates=Record(Candidate, {**domain.fields, **fixed}))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTask:
    """One search: what is asked, on which data and in which space."""

    request: dict[str, Any]
    spec: DataSpec
    dataset: Dataset
    space: SearchSpace
    bound: Constraint
    """Bound on the FLOPs of every candidate."""
    budget: EpochBudget


def search(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run one search of a request's epochs, and yield its trials."""
    spec = data_spec(request["data"])
    dataset = load(spec)
    space = open_space(request["space"], dataset, request.get("half", "both"))
    flops = space.default().cost(dataset.task)["flops"]
    task = SearchTask(
        request=request,
        spec=spec,
        dataset=dataset,
        space=space,
        bound=Constraint(metric="flops", at_most=request["max_cost"] * flops),
        budget=EpochBudget(request["epochs"]),
    )
    trials = {"product": search_product, "optuna": search_optuna}[request["method"]](task)
    yield {"trials": trials, "used": task.budget.used, "cpu_s": round(time.process_time(), 1)}


def search_product(task: SearchTask) -> list[dict[str, Any]]:
    """Search by the product's study, sampler, pruner and ledger, one trial at a time."""
    request = task.request
    config = StudyConfig.model_validate(
        {"name": "real", "space": request["space"], "engine": {"name": "in_process"}}
        | {"resources": {"gpu": 0}, "seed": request["seed"], "stop": {"trials": request["trials"]}}
        | {"budget": {"maximum": request["full"], **request["budget"]}}
        | {"objectives": request["objectives"], **request["config"]}
    ).model_copy(update={"data": task.spec, "constraints": (task.bound,)})
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(Path(folder) / "ledger.db") as ledger,
    ):
        row, lease = ledger.open_study(
            name=config.name,
            config_json=config.canonical_json(),
            space_name=task.space.name,
            space_version=task.space.version,
            data_digest=task.dataset.digest,
            holder=Holder.of_this_process(),
        )
        with StudyDriver(
            record=row,
            config=config,
            ledger=ledger,
            lease=lease,
            space=task.space,
            task=task.dataset.task,
            checkpoints_dir=LocalFolder(Path(folder) / "checkpoints"),
        ) as driver:
            task.budget.stop = lambda: driver.request_stop("epochs")
            InProcessEngine(task.budget.run_job).run(driver, task.dataset)
        return [trial_row(trial) | {"kind": trial.kind} for trial in ledger.trials(row.id)]


def trial_row(trial: Trial) -> dict[str, Any]:
    """Return what is kept of a trial: its outcome, and each validation metric by epoch."""
    row = {
        "number": trial.number,
        "state": trial.state.value,
        "reason": trial.reason,
        "digest": trial.digest,
        "flops": trial.cost.get("flops"),
        "parameters": trial.cost.get("parameters"),
        "curves": curves(trial.measurements),
    }
    if trial.state is TrialState.COMPLETE or trial.number == 0:
        row["candidate"] = trial.candidate
    return row


def curves(measurements: Sequence[Measurement]) -> dict[str, list[float]]:
    """Return each validation metric by epoch."""
    names = sorted({name for m in measurements for name in m.metrics if name.startswith("val_")})
    return {name: [round(m.metrics[name], 6) for m in measurements] for name in names}


def search_optuna(task: SearchTask) -> list[dict[str, Any]]:
    """Search by plain Optuna from the default: TPE and Hyperband, the documented pair."""
    (objective,) = task.request["objectives"]
    study = optuna.create_study(
        direction=objective["direction"],
        sampler=optuna.samplers.TPESampler(seed=task.request["seed"]),
        pruner=optuna.pruners.HyperbandPruner(
            min_resource=1, max_resource=task.request["full"], reduction_factor=3
        ),
    )
    study.enqueue_trial(task.space.default_params())
    rows: list[dict[str, Any]] = []

    def run(trial: optuna.Trial) -> float:
        rows.append({})
        try:
            for row in train_optuna(task, trial, objective["metric"]):
                rows[-1] = row
        except (DivergedError, BadCandidateError) as error:
            rows[-1] |= {"state": "FAIL", "reason": type(error).__name__}
            raise
        finally:
            if task.budget.spent:
                study.stop()
        if rows[-1]["state"] != "COMPLETE":
            raise optuna.TrialPruned
        return float(rows[-1]["curves"][objective["metric"]][-1])

    study.optimize(run, catch=(DivergedError, BadCandidateError))
    for row in rows[1:]:
        if row["state"] != "COMPLETE":
            del row["candidate"]
    return rows


def train_optuna(task: SearchTask, trial: optuna.Trial, metric: str) -> Iterator[dict[str, Any]]:
    """Train one proposal of plain Optuna; yields its row after each epoch."""
    candidate = task.space.resolve(trial)
    screening = screen(candidate, task.dataset.task, (task.bound,))
    row = {
        "number": trial.number,
        "state": "PRUNED",
        "reason": "rung" if screening.feasible else "infeasible",
        "digest": digest_of(candidate, task.dataset.task),
        "flops": screening.cost.get("flops"),
        "parameters": screening.cost.get("parameters"),
        "curves": {},
        "candidate": candidate.to_dict(),
    }
    yield row
    measurements: list[Measurement] = []
    full = task.request["full"]
    job = new_job(candidate, task.spec, seed_of(task.request["seed"], trial.number), full)
    for step in task.budget.run_job(job, task.dataset) if screening.feasible else ():
        if not isinstance(step, Measurement):
            continue
        measurements.append(step)
        trial.report(step.metrics[metric], step.fidelity)
        row |= {"curves": curves(measurements)}
        if step.fidelity == full:
            row |= {"state": "COMPLETE", "reason": None}
        yield row
        if task.budget.spent or trial.should_prune():
            return


def train(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Train each candidate with each seed, and yield its curve and its score on the test set.

    This is the one place of the benchmark that opens the held-out test set.
    """
    spec = data_spec(request["data"])
    dataset = load(spec)
    default = open_space(request["space"], dataset).default()
    for run in request["runs"]:
        plain = run["candidate"]
        candidate = default if plain is None else candidate_from_dict(plain)
        if not isinstance(candidate, Candidate):
            raise TypeError("the candidate has no network")
        began = time.process_time()
        row = {"digest": digest_of(candidate, dataset.task), "seed": run["seed"]}
        try:
            row |= _trained(new_job(candidate, spec, run["seed"], request["full"]), dataset)
        except DivergedError as error:
            row |= {"curves": {}, "test": {}, "failure": str(error)}
        row["parameters"] = candidate.cost(dataset.task)["parameters"]
        yield row | {"cpu_s": round(time.process_time() - began, 2)}


def _trained(job: TrainingJob, dataset: Dataset) -> dict[str, Any]:
    trainer = Trainer(job, dataset)
    measurements = [step for step in trainer.run() if isinstance(step, Measurement)]
    device = trainer.execution.device
    _, test, _ = on_device(replace(dataset, validation=dataset.open_test()), device)
    accumulator = MetricAccumulator(device, dataset.value_names)
    term = trainer.loss.terms[trainer.loss.main]
    for _ in evaluate(trainer.ema.evaluated, term, test, trainer.execution, accumulator):
        pass
    return {"curves": curves(measurements), "test": accumulator.metrics("test")}


def new_job(candidate: Candidate, spec: DataSpec, seed: int, epochs: int) -> TrainingJob:
    """Return the job of one whole training, without checkpoints."""
    return TrainingJob(
        key=AttemptKey(trial_uid="0" * 32, number=1, fence="none"),
        trial_number=0,
        candidate=candidate.to_dict(),
        data=spec,
        budget=Budget(maximum=epochs),
        seed=seed,
    )


def seed_of(*parts: int) -> int:
    """Return the seed of one training of a peer."""
    return zlib.crc32(repr(parts).encode())


def main() -> None:
    """Answer the request in the file that the command names."""
    request = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for row in {"search": search, "train": train}[request["kind"]](request):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
