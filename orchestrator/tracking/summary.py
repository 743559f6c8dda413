"""Description of a study in MLflow: markdown and tables of its parent run and experiment.

Pure functions of the folded events; knows no MLflow client.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.plan import KIND
from orchestrator.objective import Objective, rank, under_constraints
from orchestrator.tracking.events import StudyChange, TrialView
from orchestrator.trial import PAUSED, Trial, TrialState
from workers.data.spec import NO_DATA
from workers.measurement import Measurement

TOP = 10
"""Rows of the leaderboard in a description."""

_SPACES = "\N{NO-BREAK SPACE}" * 3
"""Follows each column title: MLflow's pages (3.17.2) leave no space between columns."""

_SHOWN_CONFIG = (
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
    "checkpoint",
    "engine.name",
    "resources.cpu",
    "resources.gpu",
)
"""Fields of the config that MLflow may show; addresses and paths may contain secrets."""


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
            "searchFilter": "tags.`archscout.kind` != 'study' "
            "and tags.`archscout.kind` != 'confirm'",
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


def config_params(config: StudyConfig) -> dict[str, Any]:
    """Return the config as flat parameters, restricted to an allow-list of fields."""
    data = json.loads(config.canonical_json())
    flat: dict[str, Any] = {"space": config.space_base}
    if not isinstance(config.space, str):
        edits = config.space.model_dump(mode="json", exclude={"base"})
        flat["space.edits"] = json.dumps(edits, sort_keys=True)
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


def rank_trials(views: Iterable[TrialView], config: StudyConfig) -> list[TrialView]:
    """Return the complete trials, best first; with several objectives the Pareto front first.

    Args:
        views: Trials of the study.
        config: The study's config now, with its constraints.
    """
    known = {view.trial.uid: view for view in views}
    trials = [_comparable(view, config) for view in known.values()]
    complete = rank(trials, config.objectives, config.objectives[0]).complete
    return [known[trial.uid] for trial in complete]


def _comparable(view: TrialView, config: StudyConfig) -> Trial:
    """Return a trial with its violations of the constraints, and its last epoch."""
    last = Measurement(fidelity=view.epoch, metrics={}, elapsed_s=0.0)
    trial = under_constraints(view.trial, config.constraints)
    return replace(trial, measurements=(last,) if view.epoch else ())


def changes_markdown(changes: Sequence[StudyChange]) -> str:
    """Return the changes of a study as markdown, the oldest first."""
    text = ["# Changes of this study", ""]
    for change in changes:
        when = datetime.fromtimestamp(change.recorded, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        text.append(f"## {when}")
        text.append("")
        for key, (old, new) in change.changed.items():
            before, after = ("nothing" if value is None else f"`{value}`" for value in (old, new))
            text.append(f"- `{key.removeprefix('config.')}`: {before} → {after}")
        text.append("")
    return "\n".join(text)


def leaderboard_table(
    rows: Sequence[TrialView], objectives: Sequence[Objective], run_ids: Mapping[str, str]
) -> str:
    """Return the leaderboard as MLflow's table artifact: JSON with `columns` and `data`."""
    metrics = [objective.metric for objective in objectives]
    costs = sorted({name for row in rows for name in row.trial.cost} - set(metrics))
    columns = ["rank", "trial", *metrics, "architecture", *costs, "epochs", "kind", "run_id"]
    data = [
        [
            position,
            row.trial.number,
            *(row.trial.values or ()),
            row.name,
            *(row.trial.cost.get(name) for name in costs),
            row.epoch,
            row.trial.kind,
            run_ids.get(row.trial.uid),
        ]
        for position, row in enumerate(rows, start=1)
    ]
    return json.dumps({"columns": columns, "data": data})


def leaderboard_markdown(
    rows: Sequence[TrialView],
    objectives: Sequence[Objective],
    links: Mapping[str, str],
) -> str:
    """Return the best trials as a markdown table whose trial numbers link to their runs."""
    metrics = [objective.metric for objective in objectives]
    has_size = "parameters" not in metrics and any("parameters" in row.trial.cost for row in rows)
    titles = ["#", "trial", *metrics, "architecture", *(["parameters"] if has_size else [])]
    lines = [
        "| " + " | ".join(f"{title}{_SPACES}" for title in titles) + " |",
        "|" + ":--|" * len(titles),
    ]
    for position, row in enumerate(rows[:TOP], start=1):
        number, link = row.trial.number, links.get(row.trial.uid)
        cells = [
            str(position),
            f"[{number}]({link})" if link else str(number),
            *(_number(value) for value in row.trial.values or ()),
            _cell(row.name),
            *([_number(row.trial.cost.get("parameters"))] if has_size else []),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def study_description(
    config: StudyConfig,
    views: Iterable[TrialView],
    rows: Sequence[TrialView],
    *,
    answer: str,
    links: Mapping[str, str],
    parent_link: str | None,
    board_link: str = "",
) -> str:
    """Return the study's task, progress and leaderboard in markdown.

    Args:
        config: The study's config.
        views: All of its trials.
        rows: The complete ones, best first.
        answer: Answer of the study in one sentence.
        links: Addresses of trials' runs by uid.
        parent_link: Address of the parent run; None for the parent run's own description.
        board_link: Address of the table of trials; used together with `parent_link`.
    """
    goal = " and ".join(f"{entry.direction} **{entry.metric}**" for entry in config.objectives)
    bounds = "".join(f", {entry.metric} at most {entry.at_most:g}" for entry in config.constraints)
    counts = _counts(views)
    text = [
        f"Study **{config.name}**: search space `{_basename(str(config.space))}`"
        f"{_data_phrase(config)}, to {goal}{bounds}.",
        f"Each trial trains for up to {config.budget.maximum} {config.budget.unit}s; "
        f"{counts or 'no trial yet'}.",
    ]
    if parent_link is not None:
        text.append(
            f"[All trials, best first]({board_link}), named by their architecture; "
            f"[plots and the full leaderboard]({parent_link}) on the study's parent run."
        )
    if rows:
        text += [f"**{answer}**", leaderboard_markdown(rows, config.objectives, links)]
    else:
        text.append("No trial has completed yet.")
    return "\n\n".join(text)


def _counts(views: Iterable[TrialView]) -> str:
    numbers: Counter[str] = Counter(
        PAUSED if view.trial.paused else view.trial.state
        for view in views
        if view.trial.kind != KIND
    )
    words = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "stopped early",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
        PAUSED: "paused",
        TrialState.WAITING: "waiting",
    }
    return ", ".join(f"{numbers[state]} {word}" for state, word in words.items() if numbers[state])


def _basename(name: str) -> str:
    """Return the last part of a path: folders of the user's machine stay private."""
    return name.rsplit("/", 1)[-1]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{int(value):,}" if value == int(value) and abs(value) >= 1000 else f"{value:.4g}"


def _data_phrase(config: StudyConfig) -> str:
    return "" if config.data.source == NO_DATA else f" on data `{config.data.source}`"
