"""How fast this machine trains: a miniature of a candidate's epoch, timed.

The trainer itself runs, on a few of the study's own examples, so that serving, augmentation and
judging count as they will. Knows no study and predicts nothing.
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
    """Where trials of a study train."""

    device: str = "cpu"
    """Torch device type."""
    threads: int = 1
    """CPU threads of a trial."""
    gpu_share: float = 0.0
    """Share of one GPU's memory, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortRun:
    """What a few batches took."""

    example_s: float
    """Seconds in which the candidate learns from one example, its share of judging included."""
    spent_s: float
    """Seconds that finding it out took."""


def time_short_run(
    candidate: Candidate, dataset: Dataset, spec: DataSpec, place: Placement, *, batches: int
) -> ShortRun:
    """Trains a candidate for two miniature epochs and times the second; the first one warms up.

    Raises:
        BadCandidateError: It cannot be built for these examples.
    """
    began = time.perf_counter()
    examples = batches * candidate.recipe.batch_size
    judged = max(1, round(examples * len(dataset.validation) / len(dataset.train)))
    job = TrainingJob(
        key=AttemptKey(trial_uid="0" * 32, number=1, fence=""),
        trial_number=0,
        candidate=candidate.to_dict(),
        data=spec,
        budget=Budget(maximum=2),
        seed=0,
        device=place.device,
        threads=place.threads,
        gpu_share=place.gpu_share,
    )
    few = replace(
        dataset,
        train=_cut(dataset.train, examples),
        validation=_cut(dataset.validation, judged),
    )
    told = [seen.elapsed_s for seen in run_job(job, few) if isinstance(seen, Measurement)]
    return ShortRun(
        example_s=max(1e-9, (told[1] - told[0]) / examples), spent_s=time.perf_counter() - began
    )


def _cut(split: Split, count: int) -> Split:
    """So many examples; a small part is repeated, since less than that cannot be timed."""
    return split.take(np.resize(np.arange(len(split)), count))
