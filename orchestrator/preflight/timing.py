"""Speed of this machine, from short trainings of some candidates of a study.

Times are fitted to a linear model of a network's FLOPs, activation memory and layers.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.config.resources import has_gpu, with_gpu_decided
from orchestrator.config.schema import StudyConfig
from orchestrator.config.starter import space_for
from orchestrator.engines.ray_tune import cluster
from orchestrator.errors import Problem, ProblemsError
from orchestrator.preflight.candidates import SampledCandidate
from orchestrator.preflight.deadline import Deadline
from orchestrator.study.prepare import StudyInputs
from search_spaces.catalog import load
from search_spaces.catalog.task_fit import fit_to_task
from search_spaces.errors import ArchscoutError
from workers.calibration import Placement, time_short_run
from workers.data.dataset import Dataset
from workers.data.limits import available_bytes, usable_cores
from workers.data.spec import DataSpec
from workers.failures import BadCandidateError, classify

log = logging.getLogger(__name__)

BATCHES = 8
"""Batches of the default candidate's short training."""
MIN_BATCHES, MAX_BATCHES = 2, 8
"""Batches of the other short trainings; small networks get more, as fixed costs weigh more."""
ENOUGH_FLOPS = 2e9
"""FLOPs of forward passes that make a short training long enough."""
MAX_TIMED = 12
"""Networks to time."""
FIRST_LIMIT_S = 2.0
"""Seconds allowed for the first network even after the deadline."""
SLOWEST_S_PER_FLOP = 12 / 2e10
"""Seconds for each FLOP of a batch on a slow machine, for twelve forward passes."""
SAFETY_FACTOR = 2.0
"""Factor by which the next network may exceed its predicted time."""
MIN_FOR_ALL_TERMS = 5
"""Timed networks from which all three terms are fitted; below, only FLOPs and memory."""
_MEMORY_SHARE = 4
"""Inverse share of the free memory that a short training may use."""
_COPIES = 4
"""Memory of a training relative to its activations: with gradients and temporary tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Properties of a network that decide its training time for an example."""

    flops: float
    activation_bytes: float
    layers: int
    batch_size: int

    def terms(self) -> tuple[float, float, float]:
        """Return the terms of the linear model, each about 1 for a small network."""
        steps = self.layers / 10 * 64 / self.batch_size
        return (self.flops / 1e7, self.activation_bytes / 3e5, steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A network with its measured training time."""

    load: Load
    example_s: float
    """Seconds to train on one example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A linear model of training times on one machine."""

    weights: tuple[float, float, float]
    """Seconds for an example, by term of the load."""
    timed: int
    """Number of networks that it was fitted to."""
    error: float | None
    """Median relative error in leave-one-out cross-validation; None if too few were timed."""

    def example_s(self, load: Load) -> float:
        """Return the predicted seconds to train on one example."""
        return sum(w * term for w, term in zip(self.weights, load.terms(), strict=True))


class NotTimedError(ArchscoutError):
    """The short training failed."""


def fit_pace(timed: Sequence[Timed]) -> Pace:
    """Fit the model to at least one timed network."""
    errors = []
    for index, held_out in enumerate(timed):
        others = [*timed[:index], *timed[index + 1 :]]
        if len(others) > 1:
            predicted = Pace(weights=_fitted(others), timed=0, error=None).example_s(held_out.load)
            errors.append(abs(np.log(predicted / held_out.example_s)))
    error = float(np.expm1(np.median(errors))) if errors else None
    return Pace(weights=_fitted(timed), timed=len(timed), error=error)


def _fitted(timed: Sequence[Timed]) -> tuple[float, float, float]:
    """Return the non-negative weights of least relative error."""
    terms = np.array([entry.load.terms() for entry in timed])
    relative = terms / np.array([[entry.example_s] for entry in timed])
    used = 3 if len(timed) >= MIN_FOR_ALL_TERMS else 2 if len(timed) > 2 else 1
    best, best_residual = np.zeros(3), np.inf
    # With so few terms, all subsets can be tried for the best one without a negative weight.
    for size in range(1, used + 1):
        for chosen in combinations(range(3 if used == 3 else 2), size):
            weights, residual = _least_squares(relative[:, chosen])
            if (weights >= 0).all() and residual < best_residual:
                best_residual, best = residual, np.zeros(3)
                best[list(chosen)] = weights
    return (float(best[0]), float(best[1]), float(best[2]))


def _least_squares(relative: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    weights = np.linalg.lstsq(relative, np.ones(len(relative)), rcond=None)[0].astype(np.float64)
    return weights, float(((relative @ weights - 1) ** 2).sum())


def load_of(sample: SampledCandidate) -> Load:
    """Return the load of a counted candidate."""
    cost = sample.cost or {}
    return Load(
        flops=cost["flops"],
        activation_bytes=cost["activation_bytes"],
        layers=sample.candidate.architecture.layers,
        batch_size=sample.candidate.recipe.batch_size,
    )


def pace_of(
    inputs: StudyInputs, samples: Sequence[SampledCandidate], deadline: Deadline
) -> Pace | None:
    """Time some counted candidates and fit the machine's pace; None if none can be timed quickly.

    Args:
        inputs: The study's inputs.
        samples: Typical candidates; the first one is timed first.
        deadline: Deadline of the timing; networks that would take longer are skipped.
    """
    place = place_of(inputs.config)
    timed: list[Timed] = []
    spent_each: list[float] = []
    for sample in _spread(samples):
        load = load_of(sample)
        if len(timed) == MAX_TIMED or not _fits_memory(load):
            continue
        if timed:
            # Building and warm-up, as a multiple of the short training itself.
            times = [_run_s(entry.load, entry.example_s) for entry in timed]
            overhead = max(spent / time for spent, time in zip(spent_each, times, strict=True))
            predicted = _run_s(load, fit_pace(timed).example_s(load)) * overhead
            if predicted * SAFETY_FACTOR > deadline.remaining_s:
                continue
        elif _slowest_s(load) > max(deadline.remaining_s, FIRST_LIMIT_S):
            continue
        try:
            run = time_short_run(
                sample.candidate, inputs.dataset, inputs.config.data, place, batches=_batches(load)
            )
        except Exception as error:  # noqa: BLE001 - its trial will report it; others are timed here
            log.debug("not timed: %s", error)
            continue
        timed.append(Timed(load=load, example_s=run.example_s))
        spent_each.append(run.spent_s)
    return fit_pace(timed) if timed else None


def _batches(load: Load) -> int:
    wanted = int(ENOUGH_FLOPS / (load.flops * load.batch_size + 1))
    return max(MIN_BATCHES, min(MAX_BATCHES, wanted))


def _run_s(load: Load, example_s: float) -> float:
    """Return the seconds of a short training."""
    return _batches(load) * load.batch_size * example_s


def _slowest_s(load: Load) -> float:
    return SLOWEST_S_PER_FLOP * load.flops * load.batch_size


def _fits_memory(load: Load) -> bool:
    """Return whether a training needs only a fraction of the free memory."""
    needed = _COPIES * load.activation_bytes * load.batch_size
    return needed < available_bytes() / _MEMORY_SHARE


def _spread(samples: Sequence[SampledCandidate]) -> Iterable[SampledCandidate]:
    """Yield the first sample, then the others by FLOPs: the median, the quartiles, and so on."""
    if not samples:
        return
    yield samples[0]
    ranked = sorted(samples[1:], key=lambda sample: load_of(sample).flops)
    taken = set()
    for parts in (2, 4, 8, 16, 32):
        for part in range(1, parts):
            index = len(ranked) * part // parts
            if index not in taken and index < len(ranked):
                taken.add(index)
                yield ranked[index]


def place_of(config: StudyConfig) -> Placement:
    """Return the device and threads that the study's trials train on."""
    decided = with_gpu_decided(config).resources
    share = min(1.0, decided.gpu or 0.0)
    return Placement(
        device="cuda" if share else "cpu", threads=max(1, int(decided.cpu)), gpu_share=share
    )


def slots_of(config: StudyConfig) -> int:
    """Return the number of parallel trials on this machine."""
    if config.engine.name == "in_process":
        return 1
    decided = with_gpu_decided(config).resources
    gpus = torch.cuda.device_count() if decided.gpu else 0
    node = {"CPU": float(usable_cores()), "GPU": float(gpus)}
    return cluster.slots_of(node, cpu=decided.cpu, gpu=decided.gpu or 0.0)


def usable_gpu() -> bool:
    """Return whether there is a GPU that training can use."""
    return has_gpu() and torch.cuda.is_available()


def example_s(dataset: Dataset, spec: DataSpec, *, gpu: bool) -> float:
    """Return the seconds to train the default candidate on one example, on one core or GPU.

    Raises:
        ProblemsError: The default candidate cannot be built for examples of this shape.
        NotTimedError: The training failed.
    """
    place = Placement(device="cuda" if gpu else "cpu")
    space = space_for(dataset.task.inputs)
    default = fit_to_task(load(space), dataset.task).default()
    try:
        return time_short_run(default, dataset, spec, place, batches=BATCHES).example_s
    except BadCandidateError as error:
        (example,) = dataset.task.inputs.values()
        shape = " x ".join(map(str, example))
        text = f"examples of {shape} fit no network of space '{space}' ({error}); use larger images"
        raise ProblemsError([Problem(spec.path or spec.source, text=text)]) from error
    except Exception as error:
        raise NotTimedError(classify(error).message) from error
