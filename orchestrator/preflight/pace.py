"""How fast this machine trains the default candidate, for a first study on somebody's data.

Knows workers, and no study.
"""

import torch

from orchestrator.config.resources import has_gpu
from orchestrator.config.starter import space_for
from orchestrator.errors import Problem, ProblemsError
from search_spaces.catalog import load
from search_spaces.catalog.task_fit import answering
from workers.calibration import Place, miniature
from workers.data.dataset import Dataset
from workers.data.spec import DataSpec
from workers.failures import BadCandidate, classify

BATCHES = 8
"""Batches of the short training."""


class NotTimed(Exception):  # noqa: N818 - the data may be good all the same
    """The short training failed; says why."""


def gpu_to_use() -> bool:
    """Whether there is a GPU that training can use."""
    return has_gpu() and torch.cuda.is_available()


def example_s(dataset: Dataset, spec: DataSpec, *, gpu: bool) -> float:
    """Seconds in which the default candidate learns from one example once, on one core or GPU.

    Raises:
        ProblemsError: The default candidate cannot be built for examples of this shape.
        NotTimed: It cannot be trained on them.
    """
    place = Place(device="cuda" if gpu else "cpu")
    space = space_for(dataset.task.inputs)
    default = answering(load(space), dataset.task).default()
    try:
        return miniature(default, dataset, spec, place, batches=BATCHES).example_s
    except BadCandidate as error:
        (example,) = dataset.task.inputs.values()
        shape = " x ".join(map(str, example))
        text = (
            f"examples of {shape} suit no network of space '{space}' ({error}); give larger images"
        )
        raise ProblemsError([Problem(spec.path or spec.source, text=text)]) from error
    except Exception as error:
        raise NotTimed(classify(error).message) from error
