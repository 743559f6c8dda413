"""The study in words and tables: what stands on the parent run and on the experiment.

Pure text from what the events told; knows no MLflow client.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.objective import Objective, rank
from orchestrator.tracking.events import TrialView
from orchestrator.trial import TrialState
from workers.data.spec import NO_DATA

TOP = 10
"""Rows of the leaderboard in a description."""

_AIR = "\N{NO-BREAK SPACE}" * 3
"""Behind each title: MLflow's pages (3.17.2) put the columns of a table side by side."""

_SHOWN_CONFIG = (
    "space",
    "train",
    "seed",
    "data.source",
    "data.limit",
    "data.split.validation",
    "data.split.test",
    "data.split.seed",
    "budget.unit",
    "budget.minimum",
    "budget.maximum",
    "budget.reduction_factor",
    "stop.trials",
    "stop.hours",
    "stop.target",
    "sampler.name",
    "pruner.name",
    "engine.name",
    "resources.cpu",
    "resources.gpu",
)
"""Fields of the config that MLflow may show; addresses and paths may carry secrets."""


def runs_view(config: StudyConfig) -> str:
    """Return the view: trials only, best first, the objectives in the first columns.

    The names are those of MLflow's pages (3.17.2), which write the same when a view is shared.
    """
    first = config.objectives[0]
    objectives = [entry.metric for entry in config.objectives]
    measured = ["elapsed_s"] if config.train else ["val_loss", "elapsed_s", "parameters", "flops"]
    tags = {"tags.`archscout.trial`": 125, "tags.`archscout.state`": 130}
    columns = [
        *(f"metrics.`{name}`" for name in objectives),
        *tags,
        *(f"metrics.`{name}`" for name in measured if name not in objectives),
    ]
    return json.dumps(
        {
            "searchFilter": "tags.`archscout.kind` != 'study'",
            "orderByKey": f"metrics.`{first.metric}`",
            "orderByAsc": first.direction == "minimize",
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": ["attributes.`Created`", *columns],
            "columnOrder": columns,  # otherwise metrics are in alphabetical order, tags after them
            "columnWidths": tags,
        }
    )


def objectives_of(config: StudyConfig) -> tuple[Objective, ...]:
    """The study's objectives in their order."""
    return tuple(
        Objective(metric=entry.metric, direction=entry.direction) for entry in config.objectives
    )


def config_params(config: StudyConfig) -> dict[str, Any]:
    """The config as flat parameters, from an allow-list of its fields."""
    data = config.model_dump(mode="json")
    flat: dict[str, Any] = {}
    for path in _SHOWN_CONFIG:
        value: Any = data
        for part in path.split("."):
            value = None if value is None else value.get(part)
        if value is not None:
            flat[path] = value
    for index, objective in enumerate(config.objectives):
        flat[f"objectives.{index}"] = f"{objective.direction} {objective.metric}"
    for index, constraint in enumerate(config.constraints):
        flat[f"constraints.{index}"] = f"{constraint.metric} at most {constraint.at_most:g}"
    return flat


def ranked(stories: Iterable[TrialView], objectives: Sequence[Objective]) -> list[TrialView]:
    """The complete trials, best first; with several objectives the Pareto front leads."""
    known = {story.trial.uid: story for story in stories}
    complete = rank([story.trial for story in known.values()], objectives, objectives[0]).complete
    return [known[trial.uid] for trial in complete]


def leaderboard_table(
    rows: Sequence[TrialView], objectives: Sequence[Objective], run_ids: Mapping[str, str]
) -> str:
    """The leaderboard as MLflow's table artifact: JSON with `columns` and `data`."""
    metrics = [objective.metric for objective in objectives]
    costs = sorted({name for row in rows for name in row.trial.cost} - set(metrics))
    columns = ["rank", "trial", *metrics, "architecture", *costs, "epochs", "kind", "run_id"]
    data = [
        [
            place,
            row.trial.number,
            *(row.trial.values or ()),
            row.name,
            *(row.trial.cost.get(name) for name in costs),
            row.epoch,
            row.trial.kind,
            run_ids.get(row.trial.uid),
        ]
        for place, row in enumerate(rows, start=1)
    ]
    return json.dumps({"columns": columns, "data": data})


def leaderboard_markdown(
    rows: Sequence[TrialView],
    objectives: Sequence[Objective],
    links: Mapping[str, str],
) -> str:
    """The best few as a markdown table whose trial numbers lead to their runs."""
    metrics = [objective.metric for objective in objectives]
    has_size = "parameters" not in metrics and any("parameters" in row.trial.cost for row in rows)
    titles = ["#", "trial", *metrics, "architecture", *(["parameters"] if has_size else [])]
    lines = [
        "| " + " | ".join(f"{title}{_AIR}" for title in titles) + " |",
        "|" + ":--|" * len(titles),
    ]
    for place, row in enumerate(rows[:TOP], start=1):
        number, link = row.trial.number, links.get(row.trial.uid)
        cells = [
            str(place),
            f"[{number}]({link})" if link else str(number),
            *(_number(value) for value in row.trial.values or ()),
            _cell(row.name),
            *([_number(row.trial.cost.get("parameters"))] if has_size else []),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def study_note(
    config: StudyConfig,
    stories: Iterable[TrialView],
    rows: Sequence[TrialView],
    *,
    links: Mapping[str, str],
    parent_link: str | None,
    board_link: str = "",
) -> str:
    """What the study is and how it stands, in markdown.

    Args:
        config: The study's config.
        stories: All of its trials.
        rows: Those that rank, best first.
        links: Addresses of trials' runs by uid.
        parent_link: Address of the parent run; None where the text stands on it.
        board_link: Address of the table of trials, for where the parent run's is given.
    """
    objectives = objectives_of(config)
    aims = " and ".join(f"{entry.direction} **{entry.metric}**" for entry in config.objectives)
    bounds = "".join(f", {entry.metric} at most {entry.at_most:g}" for entry in config.constraints)
    counts = _counts(stories)
    text = [
        f"Study **{config.name}**: search space `{_base(config.space)}`{_on_data(config)}, "
        f"to {aims}{bounds}.",
        f"Each trial trains for up to {config.budget.maximum} {config.budget.unit}s; "
        f"{counts or 'no trial yet'}.",
    ]
    if parent_link is not None:
        text.append(
            f"[All trials, best first]({board_link}), named by their architecture; "
            f"[plots and the whole leaderboard]({parent_link}) on the study's own run."
        )
    if rows:
        text.append(leaderboard_markdown(rows, objectives, links))
    else:
        text.append("No trial has completed yet.")
    return "\n\n".join(text)


def _counts(stories: Iterable[TrialView]) -> str:
    numbers = dict.fromkeys(TrialState, 0)
    for story in stories:
        numbers[story.trial.state] += 1
    words = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "stopped early",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
    }
    return ", ".join(f"{numbers[state]} {word}" for state, word in words.items() if numbers[state])


def _base(name: str) -> str:
    """The last part of a path: folders of the user's machine are nobody's business."""
    return name.rsplit("/", 1)[-1]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{int(value):,}" if value == int(value) and abs(value) >= 1000 else f"{value:.4g}"


def _on_data(config: StudyConfig) -> str:
    return "" if config.data.source == NO_DATA else f" on data `{config.data.source}`"
