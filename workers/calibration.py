"""Measurement of this machine's training speed by a short run of the trainer.

The run uses the study's own examples, so that data loading, augmentation and evaluation count.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from search_spaces.candidate import Candidate
from workers.budget import Budget
from workers.data.dataset import Dataset, Split
from workers.data.spec import DataSpec
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.run_job import run_job


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Device and resources of a trial."""

    device: str = "cpu"
    """Torch device type."""
    threads: int = 1
    """CPU threads of a trial."""
    gpu_share: float = 0.0
    """Share of one GPU's memory, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortRun:
    """Timing of a few batches."""

    example_s: float
    """Training time per example, in seconds, with its share of the evaluation."""
    spent_s: float
    """Duration of the whole measurement, in seconds."""


def time_short_run(
    candidate: Candidate, dataset: Dataset, spec: DataSpec, placement: Placement, *, batches: int
) -> ShortRun:
    """Train a candidate for two short epochs and time the second; the first one warms up.

    Args:
        candidate: The candidate to train.
        dataset: Data set that the examples are taken from.
        spec: Source of the data set.
        placement: Device and resources.
        batches: Number of batches per epoch.

    Raises:
        BadCandidateError: It cannot be built for these examples.
    """
    began = time.perf_counter()
    examples = batches * candidate.recipe.batch_size
    evaluated = max(1, round(examples * len(dataset.validation) / len(dataset.train)))
    job = TrainingJob(
        key=AttemptKey(trial_uid="0" * 32, number=1, fence=""),
        trial_number=0,
        candidate=candidate.to_dict(),
        data=spec,
        budget=Budget(maximum=2),
        seed=0,
        device=placement.device,
        threads=placement.threads,
        gpu_share=placement.gpu_share,
    )
    few = replace(
        dataset,
        train=_resize(dataset.train, examples),
        validation=_resize(dataset.validation, evaluated),
    )
    elapsed = [step.elapsed_s for step in run_job(job, few) if isinstance(step, Measurement)]
    return ShortRun(
        example_s=max(1e-9, (elapsed[1] - elapsed[0]) / examples),
        spent_s=time.perf_counter() - began,
    )


def _resize(split: Split, count: int) -> Split:
    """Return `count` examples, repeating those of a small split: fewer cannot be timed."""
    return split.take(np.resize(np.arange(len(split)), count))
