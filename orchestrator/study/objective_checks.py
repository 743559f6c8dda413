"""Check a study's objectives and loss terms against its space and data.

If the space decides the loss that an objective measures, the search could improve the objective by
changing the loss instead of improving the model.
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

_NEED_CLASSES: frozenset[Need] = frozenset({"logits", "auxiliary", "labels"})
_NEED_TARGETS: frozenset[Need] = frozenset({"values", "input_gradients"})
_NEED_STREAMS: frozenset[Need] = frozenset({"towers"})


def check_objectives(
    config: StudyConfig, space: object, task: Task, value_names: Sequence[str] = ()
) -> None:
    """Refuse objectives that the search could improve without learning, or that are not measured.

    All options of the space are covered (`each_choice`). A user's own training is not checked,
    because it defines its metrics itself.

    Args:
        config: The study's config.
        space: The study's space.
        task: The study's task.
        value_names: Names of the regression targets; numbers by default.

    Raises:
        ProblemsError: An objective or loss term is refused, or the user's own space raised.
    """
    if config.train is not None or not isinstance(space, SearchSpace):
        return
    sampled = each_choice(lambda suggester: resolve_candidate(config, space, suggester))
    candidates = [one for one in sampled if isinstance(one, Candidate)]
    needs = _needs(candidates)
    found = [
        *_name_problems(config),
        *_loss_problems(config, candidates),
        *_example_problems(config, candidates),
        *_task_problems(config, task, value_names or [str(n) for n in range(task.num_values)]),
        *_term_problems(needs, task),
        *_teacher_problems(config, needs),
    ]
    if found:
        raise ProblemsError([Problem(config.name, text=text, path=path) for path, text in found])


def _name_problems(config: StudyConfig) -> Iterator[tuple[KeyPath, str]]:
    for index, objective in enumerate(config.objectives):
        if problem := objective_problem(objective.metric, None):
            yield ("objectives", index, "metric"), problem


def _needs(candidates: Sequence[Candidate]) -> dict[str, frozenset[Need]]:
    """Return the inputs of each loss term of the space; unregistered terms fail when built."""
    names = sorted({name for one in candidates for name in one.losses.normalized_weights()})
    return {name: TERMS[name].needs for name in names if name in TERMS}


def _term_problems(
    needs: Mapping[str, frozenset[Need]], task: Task
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the loss terms whose inputs the data does not have."""
    lacking: Mapping[str, frozenset[Need]] = {
        "classes, which the data does not have": frozenset() if task.num_classes else _NEED_CLASSES,
        "regression targets, which the data does not have": frozenset()
        if task.num_values
        else _NEED_TARGETS,
        "two streams; the data has one": frozenset() if len(task.inputs) > 1 else _NEED_STREAMS,
    }
    for name, read in needs.items():
        for what, missing in lacking.items():
            if read & missing:
                yield ("space",), f"its loss term '{name}' needs {what}; remove the term"


def _teacher_problems(
    config: StudyConfig, needs: Mapping[str, frozenset[Need]]
) -> Iterator[tuple[KeyPath, str]]:
    distils = any("teacher" in read for read in needs.values())
    if distils and config.teacher is None:
        yield (
            ("teacher",),
            "is missing: a loss term of this space distils. Give a promoted model and its "
            "version, such as digits/1",
        )
    if config.teacher is not None and not distils:
        yield ("teacher",), "is unused: no loss term of this space uses a teacher; remove it"


def _loss_problems(
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
            f"({mains[0]} or {mains[1]}): the search could lower it by changing the loss "
            "instead of improving the model. Use a metric without the loss, such as val_accuracy, "
            "or fix the main term",
        )


def _example_problems(
    config: StudyConfig, candidates: Sequence[Candidate]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the objectives on training examples whose difficulty the space decides."""
    ways = {(one.recipe.augmentation, one.recipe.mixing) for one in candidates}
    if len(ways) < 2:
        return
    for index, objective in enumerate(config.objectives):
        if objective.metric.startswith("train_"):
            yield (
                ("objectives", index, "metric"),
                f"'{objective.metric}' is measured on training examples, whose augmentation or "
                "mixing this space decides: the search could improve it by choosing easier ones. "
                f"Use {objective.metric.replace('train_', 'val_', 1)}",
            )


def _task_problems(
    config: StudyConfig, task: Task, value_names: Sequence[str]
) -> Iterator[tuple[KeyPath, str]]:
    errors = ["rmse", *mae_names(value_names)] if value_names else []
    measured = ["loss", *(["accuracy"] if task.num_classes else []), *errors]
    for index, objective in enumerate(config.objectives):
        split, _, metric = objective.metric.partition("_")
        if objective_problem(objective.metric, None):
            continue  # already reported
        if split in ("train", "val") and metric not in measured:
            if metric == "accuracy":
                lacking = "no classes"
            elif not value_names:
                lacking = "no regression targets"
            else:
                lacking = f"{len(value_names)} regression targets, each with its own error"
            listed = ", ".join(f"val_{name}" for name in measured)
            text = f"'{objective.metric}' is not measured: the data has {lacking}. Measured: "
            yield ("objectives", index, "metric"), text + listed


def _metrics(config: StudyConfig, *names: str) -> list[tuple[int, str]]:
    """Return index and metric of the objectives that use one of some metrics, on any split."""
    return [
        (index, objective.metric)
        for index, objective in enumerate(config.objectives)
        if objective.metric.removeprefix("train_").removeprefix("val_") in names
    ]


def _main(candidate: Candidate) -> str:
    """Return the main term with its options in words."""
    losses = candidate.losses
    options = losses.terms[losses.main].options
    written = ", ".join(f"{name} {value:g}" for name, value in options.items())
    return f"{losses.main} with {written}" if written else losses.main
