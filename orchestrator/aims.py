"""Whether a study's objectives can be aimed at: nothing that it decides may change the ruler.

A search that may choose weights, or the loss by which it is judged, lowers such an objective by
choosing, not by learning. Knows spaces and tasks; no trial.
"""

from collections.abc import Iterator, Sequence

from orchestrator.config import StudyConfig
from orchestrator.problems import Path, Problem, ProblemsError
from search_spaces.candidate import Candidate
from search_spaces.loss_weights import TERMS
from search_spaces.space import SearchSpace
from search_spaces.suggester import RandomSuggester
from search_spaces.task import Task

DRAWN = 64
"""Candidates that are looked at to see whether the main loss is a decision of the space."""


def check_objectives(config: StudyConfig, space: object, task: Task) -> None:
    """Refuses objectives that this search could meet by choosing its loss, or that no data serves.

    A user's own training says for itself what its metrics mean.

    Raises:
        ProblemsError: One such objective or more.
    """
    if config.train is not None or not isinstance(space, SearchSpace):
        return
    drawn = [space.resolve(RandomSuggester(seed)) for seed in range(DRAWN)]
    found = [
        *_of_the_loss(config, drawn),
        *_of_the_task(config, task),
        *_of_the_teacher(config, drawn),
    ]
    if found:
        raise ProblemsError([Problem(config.name, text=text, path=path) for path, text in found])


def _of_the_teacher(config: StudyConfig, drawn: Sequence[Candidate]) -> Iterator[tuple[Path, str]]:
    distils = any("teacher" in TERMS[name].needs for one in drawn for name in one.losses.shares())
    if distils and config.teacher is None:
        yield (
            ("teacher",),
            "is missing: a loss term of this space distils. Name a promoted model and its "
            "version, such as digits/1",
        )
    if config.teacher is not None and not distils:
        yield ("teacher",), "teaches nobody: no loss term of this space distils; remove it"


def _of_the_loss(config: StudyConfig, drawn: Sequence[Candidate]) -> Iterator[tuple[Path, str]]:
    named = _metrics(config, "loss")
    mains = sorted({_main(one) for one in drawn})
    if len(mains) < 2:
        return
    for index, metric in named:
        yield (
            ("objectives", index, "metric"),
            f"'{metric}' is measured by the main loss term, which this space decides "
            f"({mains[0]} or {mains[1]}): the search would lower it by choosing another ruler. "
            "Aim at what no loss changes, such as val_accuracy, or fix the main term",
        )


def _of_the_task(config: StudyConfig, task: Task) -> Iterator[tuple[Path, str]]:
    for names, there, lacking, instead in (
        (("accuracy",), task.num_classes, "no classes", "val_mae, val_rmse"),
        (("mae", "rmse"), task.num_values, "no numbers to foretell", "val_accuracy"),
    ):
        if not there:
            for index, metric in _metrics(config, *names):
                text = f"'{metric}' is not measured: the data has {lacking}. Measured: {instead}"
                yield ("objectives", index, "metric"), text


def _metrics(config: StudyConfig, *names: str) -> list[tuple[int, str]]:
    """The objectives whose metric is one of these, on whichever part, with their positions."""
    return [
        (index, objective.metric)
        for index, objective in enumerate(config.objectives)
        if objective.metric.removeprefix("train_").removeprefix("val_") in names
    ]


def _main(candidate: Candidate) -> str:
    """The main term and its options, as people write it."""
    losses = candidate.losses
    options = losses.terms[losses.main].options
    written = ", ".join(f"{name} {value:g}" for name, value in options.items())
    return f"{losses.main} with {written}" if written else losses.main
