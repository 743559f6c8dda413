"""How fast this machine trains: one short training, timed.

Knows workers, and no study.
"""

from dataclasses import replace

import numpy as np
import torch

from orchestrator.first_study import SPACE
from orchestrator.machine import has_gpu
from orchestrator.problems import Problem, ProblemsError
from search_spaces.catalog import load
from workers.budget import Budget
from workers.data.dataset import Dataset
from workers.data.spec import DataSpec
from workers.failures import BadCandidate
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.start import start

EXAMPLES = 512
"""Examples of the short training: eight batches of the default candidate."""


def gpu_to_use() -> bool:
    """Whether there is a GPU that training can use."""
    return has_gpu() and torch.cuda.is_available()


def example_s(dataset: Dataset, spec: DataSpec, *, gpu: bool) -> float:
    """Seconds in which the default candidate learns from one example once, on one core or GPU.

    Raises:
        ProblemsError: The default candidate cannot be built for examples of this shape.
    """
    default = load(SPACE).default()
    job = TrainingJob(
        key=AttemptKey(trial_uid="0" * 32, number=1, fence=""),
        trial_number=0,
        candidate=default.to_dict(),
        data=spec,
        budget=Budget(maximum=2),
        seed=0,
        device="cuda" if gpu else "cpu",
    )
    few = replace(
        dataset,
        # Small data sets are repeated: less than a few batches cannot be timed.
        train=dataset.train.take(np.resize(np.arange(len(dataset.train)), EXAMPLES)),
        validation=dataset.validation.take(np.arange(min(64, len(dataset.validation)))),
    )
    try:
        told = [m.elapsed_s for m in start(job, few) if isinstance(m, Measurement)]
    except BadCandidate as error:
        shape = " x ".join(map(str, dataset.task.inputs["image"]))
        text = (
            f"examples of {shape} suit no network of space '{SPACE}' ({error}); give larger images"
        )
        raise ProblemsError([Problem(spec.path or spec.source, text=text)]) from error
    return max(1e-9, (told[1] - told[0]) / EXAMPLES)
