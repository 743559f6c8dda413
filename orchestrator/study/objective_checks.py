"""Whether a study's objectives can be aimed at: nothing that it decides may change the ruler.

A search that may choose weights, or the loss by which it is judged, lowers such an objective by
choosing, not by learning. Knows spaces and tasks; no trial.
"""

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.config.checks import objective_problem
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import KeyPath, Problem, ProblemsError
from orchestrator.sampling.candidates import resolve_candidate
from search_spaces.candidate import Candidate
from search_spaces.domains.coverage import each_choice
from search_spaces.loss_terms import Need
from search_spaces.losses import TERMS
from search_spaces.space import SearchSpace
from search_spaces.task import Task
from workers.metrics import mae_names

_OF_CLASSES: frozenset[Need] = frozenset({"logits", "auxiliary", "labels"})
_OF_NUMBERS: frozenset[Need] = frozenset({"values", "input_gradients"})
_OF_STREAMS: frozenset[Need] = frozenset({"towers"})


def check_objectives(
    config: StudyConfig, space: object, task: Task, value_names: Sequence[str] = ()
) -> None:
    """Refuses aims and losses that this search could meet by choosing, or that no data serves.

    Every option of the space is looked at (`covering`). A user's own training says for itself what
    its metrics mean.

    Raises:
        ProblemsError: One such objective or loss term or more; or the user's own space raised.
    """
    if config.train is not None or not isinstance(space, SearchSpace):
        return
    draws = each_choice(lambda suggester: resolve_candidate(config, space, suggester))
    candidates = [one for one in draws if isinstance(one, Candidate)]
    needs = _needs(candidates)
    found = [
        *_of_the_name(config),
        *_of_the_loss(config, candidates),
        *_of_the_examples(config, candidates),
        *_of_the_task(config, task, value_names or [str(n) for n in range(task.num_values)]),
        *_of_the_terms(needs, task),
        *_of_the_teacher(config, needs),
    ]
    if found:
        raise ProblemsError([Problem(config.name, text=text, path=path) for path, text in found])


def _of_the_name(config: StudyConfig) -> Iterator[tuple[KeyPath, str]]:
    for index, objective in enumerate(config.objectives):
        if wrong := objective_problem(objective.metric, None):
            yield ("objectives", index, "metric"), wrong


def _needs(candidates: Sequence[Candidate]) -> dict[str, frozenset[Need]]:
    """What each loss term of the space reads; one that nobody registered fails where it is made."""
    names = sorted({name for one in candidates for name in one.losses.normalized_weights()})
    return {name: TERMS[name].needs for name in names if name in TERMS}


def _of_the_terms(
    needs: Mapping[str, frozenset[Need]], task: Task
) -> Iterator[tuple[KeyPath, str]]:
    """Loss terms that read what the data does not have."""
    lacking: Mapping[str, frozenset[Need]] = {
        "classes, of which the data has none": frozenset() if task.num_classes else _OF_CLASSES,
        "numbers, of which the data has none": frozenset() if task.num_values else _OF_NUMBERS,
        "two streams; the data has one": frozenset() if len(task.inputs) > 1 else _OF_STREAMS,
    }
    for name, read in needs.items():
        for what, missing in lacking.items():
            if read & missing:
                yield ("space",), f"its loss term '{name}' needs {what}; leave the term out"


def _of_the_teacher(
    config: StudyConfig, needs: Mapping[str, frozenset[Need]]
) -> Iterator[tuple[KeyPath, str]]:
    distils = any("teacher" in read for read in needs.values())
    if distils and config.teacher is None:
        yield (
            ("teacher",),
            "is missing: a loss term of this space distils. Name a promoted model and its "
            "version, such as digits/1",
        )
    if config.teacher is not None and not distils:
        yield ("teacher",), "teaches nobody: no loss term of this space distils; remove it"


def _of_the_loss(
    config: StudyConfig, candidates: Sequence[Candidate]
) -> Iterator[tuple[KeyPath, str]]:
    named = _metrics(config, "loss")
    mains = sorted({_main(one) for one in candidates})
    if len(mains) < 2:
        return
    for index, metric in named:
        yield (
            ("objectives", index, "metric"),
            f"'{metric}' is measured by the main loss term, which this space decides "
            f"({mains[0]} or {mains[1]}): the search would lower it by choosing another ruler. "
            "Aim at what no loss changes, such as val_accuracy, or fix the main term",
        )


def _of_the_examples(
    config: StudyConfig, candidates: Sequence[Candidate]
) -> Iterator[tuple[KeyPath, str]]:
    """Objectives on training examples that the space makes easier or harder."""
    ways = {(one.recipe.augmentation, one.recipe.mixing) for one in candidates}
    if len(ways) < 2:
        return
    for index, objective in enumerate(config.objectives):
        if objective.metric.startswith("train_"):
            yield (
                ("objectives", index, "metric"),
                f"'{objective.metric}' is measured on training examples, whose augmentation or "
                "mixing this space decides: the search would meet it by choosing easier ones. "
                f"Aim at {objective.metric.replace('train_', 'val_', 1)}",
            )


def _of_the_task(
    config: StudyConfig, task: Task, value_names: Sequence[str]
) -> Iterator[tuple[KeyPath, str]]:
    errors = ["rmse", *mae_names(value_names)] if value_names else []
    measured = ["loss", *(["accuracy"] if task.num_classes else []), *errors]
    for index, objective in enumerate(config.objectives):
        part, _, metric = objective.metric.partition("_")
        if objective_problem(objective.metric, None):
            continue  # said already
        if part in ("train", "val") and metric not in measured:
            if metric == "accuracy":
                lacking = "no classes"
            elif not value_names:
                lacking = "no numbers to foretell"
            else:
                lacking = f"{len(value_names)} numbers, each with an error of its own"
            listed = ", ".join(f"val_{name}" for name in measured)
            text = f"'{objective.metric}' is not measured: the data has {lacking}. Measured: "
            yield ("objectives", index, "metric"), text + listed


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
