"""A small network, digits loaded once, and jobs that train it."""

from collections.abc import Callable
from typing import Any

import pytest

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import Stage
from search_spaces.blocks.convolution import Residual
from search_spaces.blocks.fusion import Concatenate
from search_spaces.blocks.heads import Classify
from search_spaces.blocks.stems import ConvolutionStem
from search_spaces.candidate import Candidate
from search_spaces.loss_terms import LossWeights
from search_spaces.recipe import Recipe
from workers.budget import Budget
from workers.data import Dataset, DataSpec, load
from workers.job import AttemptKey, TrainingJob

DIGITS = DataSpec(source="digits")


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load(DIGITS)


def small_candidate(
    *, normalisation: str = "batch", losses: LossWeights | None = None, **recipe: Any
) -> Candidate:
    stage = Stage(
        width=16, depth=1, block=Residual(normalisation=normalisation), normalisation=normalisation
    )
    return Candidate(
        architecture=Architecture(
            streams={
                "image": Stream(
                    stem=ConvolutionStem(width=16, normalisation=normalisation), stages=(stage,)
                )
            },
            fusion=Concatenate(),
            head=Classify(dropout=0.1),
        ),
        recipe=Recipe(**recipe),
        losses=losses or LossWeights(),
        space_name="test",
        space_version="1",
    )


@pytest.fixture(scope="session")
def make_job() -> Callable[..., TrainingJob]:
    def make(
        *, epochs: int = 3, seed: int = 0, candidate: Any = None, recipe: Any = None, **changes: Any
    ) -> TrainingJob:
        return TrainingJob(
            **{
                "key": AttemptKey(trial_uid="0" * 32, number=1, fence="f"),
                "trial_number": 0,
                "candidate": candidate or small_candidate(**(recipe or {})).to_dict(),
                "data": DIGITS,
                "budget": Budget(maximum=epochs),
                "seed": seed,
                **changes,
            }
        )

    return make
