"""Recorded numbers are those of the kept weights, whatever the recipe; resuming changes none."""

import dataclasses
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Classify,
    Concatenate,
    ConvolutionStem,
    Gate,
    Residual,
    Stage,
)
from search_spaces.candidate import Candidate
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.loss_terms import BalancerName, LossTerm, LossWeights
from search_spaces.recipe import Recipe, recipe_domain
from workers.data import Dataset
from workers.job import TrainingJob
from workers.measurement import Measurement, Progress
from workers.training.evaluate import MetricAccumulator, evaluate
from workers.training.trainer import Trainer

MakeJob = Callable[..., TrainingJob]
RECIPES = recipe_domain(
    augmentations=("none", "shift", "cutout", "flip_shift", "erasing"),
    batch_sizes=(16, 32),
    precisions=("float32", "bfloat16"),
    mixings=("none", "mixup", "cutmix"),
    accumulation_rules=("fixed", "variance", "forecast"),
    weight_averages=(None, 0.9, 0.99),
)
GATE = Gate(convolution=Residual(), attention=Attention(heads=2, positions="relative"))
ARCHITECTURE = Architecture(
    streams={
        "image": Stream(
            stem=ConvolutionStem(width=8, reduction="pool"),
            stages=(Stage(width=8, depth=1, reduction="none", block=GATE),),
        )
    },
    fusion=Concatenate(),
    head=Classify(dropout=0.1),
)


@settings(deadline=None, max_examples=6)
@given(
    seed=st.integers(0, 2**32),
    average=st.sampled_from([None, 0.9, 0.99]),
    balancer=st.sampled_from(["uncertainty", "fixed", "gradnorm"]),
)
def test_recorded_metrics_are_those_of_the_saved_weights_and_of_an_uninterrupted_training(
    make_job: MakeJob, digits: Dataset, seed: int, average: float | None, balancer: BalancerName
) -> None:
    recipe = RECIPES.resolve(RandomSuggester(seed), "recipe")
    recipe = dataclasses.replace(recipe, weight_average=average)
    few = dataclasses.replace(
        digits,
        train=digits.train.take(np.arange(64)),
        validation=digits.validation.take(np.arange(40)),
    )
    with TemporaryDirectory() as folder:
        job = make_job(
            epochs=2, candidate=candidate(recipe, balancer).to_dict(), checkpoint_dir=folder
        )
        first, second = measured(Trainer(job, few).run())
        assert first.checkpoint is not None
        resumed = Trainer(dataclasses.replace(job, resume_from=(first.checkpoint,)), few)
        assert judged(resumed) == of_validation(first)
        (again,) = measured(resumed.run())
        assert again.metrics == second.metrics


def candidate(recipe: Recipe, balancer: BalancerName) -> Candidate:
    terms = {"cross_entropy": LossTerm(), "gate_entropy": LossTerm(weight=0.2)}
    return Candidate(
        architecture=ARCHITECTURE,
        recipe=recipe,
        losses=LossWeights(main="cross_entropy", terms=terms, balancer=balancer),
        space_name="test",
        space_version="1",
    )


def measured(run: Iterator[Measurement | Progress]) -> list[Measurement]:
    return [one for one in run if isinstance(one, Measurement)]


def of_validation(measurement: Measurement) -> dict[str, float]:
    return {k: v for k, v in measurement.metrics.items() if k.startswith("val_")}


def judged(trainer: Trainer) -> dict[str, float]:
    """What the weights that were kept give on the validation split."""
    accumulator = MetricAccumulator(trainer.execution.device)
    term = trainer.loss.terms[trainer.loss.main]
    network = trainer.ema.evaluated
    judging = evaluate(
        network,
        term,
        trainer.validation,
        trainer.execution,
        accumulator,
        max_batch_size=trainer.recipe.batch_size,
    )
    for _ in judging:
        pass
    return accumulator.metrics("val")
