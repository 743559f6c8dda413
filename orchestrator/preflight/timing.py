"""Training speed of this machine for one study, from short timed runs of its candidates."""

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

MIN_BATCHES, MAX_BATCHES = 2, 8
"""Batches of a short run: more for small networks, so that overhead does not count."""
ENOUGH_FLOPS = 2e9
"""Forward FLOPs that make a short run long enough."""
MAX_TIMED = 12
ONE_S = 2.0
"""Time that the first run may take even past the deadline: one is worth much more than none."""
SLOWEST = 12 / 2e10
"""Seconds per FLOP of a batch on a slow machine; a short run has about 12 forward passes."""
SAFETY_FACTOR = 2.0
"""Margin on the predicted time of the next run."""
_MEMORY_SHARE = 4
_COPIES = 4
"""Activations, their gradients, and as much again for intermediate results."""


MIN_FOR_ALL = 5
"""Timed networks needed to fit three coefficients; fewer fit arithmetic and memory only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Properties that determine the training time per example."""

    flops: float
    activation_bytes: float
    layers: int
    batch_size: int

    def terms(self) -> tuple[float, float, float]:
        """Return the three terms of the time model, each about 1 for a small network."""
        steps = self.layers / 10 * 64 / self.batch_size
        return (self.flops / 1e7, self.activation_bytes / 3e5, steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A timed network."""

    load: Load
    example_s: float
    """Training time per example, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Training speed of a machine, as a linear model."""

    weights: tuple[float, float, float]
    """Seconds an example for each term of a load."""
    timed: int
    """Networks that it was fitted to."""
    error: float | None
    """Median relative error of leave-one-out predictions; None if too few were timed."""

    def example_s(self, load: Load) -> float:
        """Return the predicted training time per example, in seconds."""
        return sum(w * term for w, term in zip(self.weights, load.terms(), strict=True))


def fit_pace(timed: Sequence[Timed]) -> Pace:
    """Fit the pace to at least one timed network."""
    errors = []
    for index, left_out in enumerate(timed):
        others = [*timed[:index], *timed[index + 1 :]]
        if len(others) > 1:
            guess = Pace(weights=_fitted(others), timed=0, error=None).example_s(left_out.load)
            errors.append(abs(np.log(guess / left_out.example_s)))
    error = float(np.expm1(np.median(errors))) if errors else None
    return Pace(weights=_fitted(timed), timed=len(timed), error=error)


def _fitted(timed: Sequence[Timed]) -> tuple[float, float, float]:
    """Return the non-negative weights of least relative error."""
    terms = np.array([entry.load.terms() for entry in timed])
    relative = terms / np.array([[entry.example_s] for entry in timed])
    used = 3 if len(timed) >= MIN_FOR_ALL else 2 if len(timed) > 2 else 1
    best, best_rest = np.zeros(3), np.inf
    # Of so few terms every choice can be tried: the best one without a negative weight counts.
    for size in range(1, used + 1):
        for chosen in combinations(range(3 if used == 3 else 2), size):
            weights, rest = _least_squares(relative[:, chosen])
            if (weights >= 0).all() and rest < best_rest:
                best_rest, best = rest, np.zeros(3)
                best[list(chosen)] = weights
    return (float(best[0]), float(best[1]), float(best[2]))


def _least_squares(relative: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    weights = np.linalg.lstsq(relative, np.ones(len(relative)), rcond=None)[0].astype(np.float64)
    return weights, float(((relative @ weights - 1) ** 2).sum())


def load_of(probe: SampledCandidate) -> Load:
    """Return the load of a counted candidate."""
    cost = probe.cost or {}
    return Load(
        flops=cost["flops"],
        activation_bytes=cost["activation_bytes"],
        layers=probe.candidate.architecture.layers,
        batch_size=probe.candidate.recipe.batch_size,
    )


def pace_of(
    inputs: StudyInputs, probes: Sequence[SampledCandidate], deadline: Deadline
) -> Pace | None:
    """Time some of the counted candidates; None if none can be timed quickly.

    Args:
        inputs: The study.
        probes: Typical candidates, the first of which is timed first.
        deadline: Time to spend; a network that would take longer is skipped.
    """
    place = place_of(inputs.config)
    timed: list[Timed] = []
    spent_each: list[float] = []
    for probe in _spread(probes):
        load = load_of(probe)
        if not _fits_memory(load) or len(timed) == MAX_TIMED:
            continue
        if timed:
            # Building, warming up and so on, as a multiple of the short run itself.
            times = [_epoch_s(entry.load, entry.example_s) for entry in timed]
            dearer = max(spent / epoch for spent, epoch in zip(spent_each, times, strict=True))
            predicted_s = _epoch_s(load, fit_pace(timed).example_s(load)) * dearer
            if predicted_s * SAFETY_FACTOR > deadline.left_s:
                continue
        elif SLOWEST * load.flops * load.batch_size > max(deadline.left_s, ONE_S):
            continue
        try:
            seen = time_short_run(
                probe.candidate,
                inputs.dataset,
                inputs.config.data,
                place,
                batches=_batches(load),
            )
        except Exception as error:  # noqa: BLE001 - its trial will report it; here others are timed
            log.debug("not timed: %s", error)
            continue
        timed.append(Timed(load=load, example_s=seen.example_s))
        spent_each.append(seen.spent_s)
    return fit_pace(timed) if timed else None


def _batches(load: Load) -> int:
    return max(
        MIN_BATCHES, min(MAX_BATCHES, int(ENOUGH_FLOPS / (load.flops * load.batch_size + 1)))
    )


def _epoch_s(load: Load, example_s: float) -> float:
    """Return the time of a short run, in seconds."""
    return _batches(load) * load.batch_size * example_s


def place_of(config: StudyConfig) -> Placement:
    """Return the device and share of it on which the study's trials train."""
    decided = with_gpu_decided(config).resources
    share = min(1.0, decided.gpu or 0.0)
    return Placement(
        device="cuda" if share else "cpu", threads=max(1, int(decided.cpu)), gpu_share=share
    )


def slots_of(config: StudyConfig) -> int:
    """Return the number of concurrent trials on this machine."""
    if config.engine.name == "in_process":
        return 1
    decided = with_gpu_decided(config).resources
    gpus = torch.cuda.device_count() if decided.gpu else 0
    node = {"CPU": float(usable_cores()), "GPU": float(gpus)}
    return cluster.slots_of(node, cpu=decided.cpu, gpu=decided.gpu or 0.0)


def _spread(probes: Sequence[SampledCandidate]) -> Iterable[SampledCandidate]:
    """Yield the first one, then the others by FLOPs: the middle, the quarters, and so on."""
    if not probes:
        return
    yield probes[0]
    ranked = sorted(probes[1:], key=lambda probe: load_of(probe).flops)
    taken = set()
    for parts in (2, 4, 8, 16, 32):
        for part in range(1, parts):
            index = len(ranked) * part // parts
            if index not in taken and index < len(ranked):
                taken.add(index)
                yield ranked[index]


def _fits_memory(load: Load) -> bool:
    """Return whether training takes only a fraction of the free memory."""
    wanted = _COPIES * load.activation_bytes * load.batch_size
    return wanted < available_bytes() / _MEMORY_SHARE


BATCHES = 8
"""Batches of the short run of `init`."""


class NotTimedError(ArchscoutError):
    """The short run failed; the message has the reason."""


def gpu_to_use() -> bool:
    """Return whether training can use a GPU."""
    return has_gpu() and torch.cuda.is_available()


def example_s(dataset: Dataset, spec: DataSpec, *, gpu: bool) -> float:
    """Return the training time per example of the default candidate, on one core or GPU.

    Raises:
        ProblemsError: The default candidate cannot be built for examples of this shape.
        NotTimedError: It cannot be trained on them.
    """
    place = Placement(device="cuda" if gpu else "cpu")
    space = space_for(dataset.task.inputs)
    default = fit_to_task(load(space), dataset.task).default()
    try:
        return time_short_run(default, dataset, spec, place, batches=BATCHES).example_s
    except BadCandidateError as error:
        (example,) = dataset.task.inputs.values()
        shape = " x ".join(map(str, example))
        text = (
            f"examples of {shape} suit no network of space '{space}' ({error}); give larger images"
        )
        raise ProblemsError([Problem(spec.path or spec.source, text=text)]) from error
    except Exception as error:
        raise NotTimedError(classify(error).message) from error
