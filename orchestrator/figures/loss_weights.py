"""Where on the simplex of loss weights a study's trials lay, and what came of it.

Reads trials as values; knows where nothing lies.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from orchestrator.objective import Objective
from orchestrator.trial import Trial, TrialState
from search_spaces.loss_terms import LossWeights

CORNERS = 3
"""Terms that a plane can show."""
MAIN = "main term"
"""What the corner of the main terms is called where they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """One trial."""

    weights: Mapping[str, float]
    value: float
    """The objective at the trial's last epoch."""
    text: str
    is_complete: bool

    def place(self, corners: Sequence[str]) -> list[float]:
        """Its weights at these corners, summing to one."""
        parts = [self.weights.get(corner, 0.0) for corner in corners]
        total = sum(parts) or 1.0  # all its weight may lie on terms that have no corner
        return [part / total for part in parts]


def weights_map(
    title: str, objective: Objective, trials: Sequence[Trial], texts: Sequence[str]
) -> go.Figure | None:
    """The weights that trials ended with, coloured by an objective where they are complete.

    Two terms make a line, drawn against the objective; three a triangle. Of more, the main term
    and the two that most trials have stand at the corners, each trial where the ratio of those
    puts it. Whatever term is the main one has the same corner.

    Args:
        title: The study's name.
        objective: What colours; the first of the study's.
        trials: The study's.
        texts: What each says when it is pointed at.

    Returns:
        The figure; None where no complete trial weighs two terms.
    """
    mains = {losses.main for trial in trials if (losses := _losses(trial)) is not None}
    main = next(iter(mains)) if len(mains) == 1 else MAIN
    points = [
        point
        for trial, text in zip(trials, texts, strict=True)
        if (point := _point(trial, objective.metric, main, text)) is not None
    ]
    often = Counter(name for point in points for name in point.weights if name != main)
    corners = [main, *(name for name, _ in often.most_common(CORNERS - 1))]
    complete = [point for point in points if point.is_complete]
    if not any(len(point.weights) > 1 for point in complete):
        return None
    draw = _triangle if len(corners) == CORNERS else _line
    figure = draw(corners, complete, [p for p in points if not p.is_complete], objective)
    figure.update_layout(
        title=f"{title}: weights of the loss terms and {objective.metric}",
        legend={"orientation": "h", "y": -0.12},
    )
    return figure


def _losses(trial: Trial) -> LossWeights | None:
    """What a trial minimises; None where that is not ours to say."""
    losses = trial.candidate.get("losses")
    return None if losses is None else LossWeights.from_dict(losses)


def _point(trial: Trial, metric: str, main: str, text: str) -> _Point | None:
    """Where a trial lies; None where its weights or its result are not known."""
    losses = _losses(trial)
    last = trial.measurements[-1].metrics if trial.measurements else {}
    is_complete = trial.state is TrialState.COMPLETE and bool(trial.values)
    value = (trial.values or (None,))[0] if is_complete else last.get(metric)
    if losses is None or value is None:
        return None
    # What a balancer made of the decided weights is what the network learnt by.
    weights = {
        name: last.get(f"weights/{name}", share)
        for name, share in losses.normalized_weights().items()
    }
    told = ", ".join(f"{name} {weights[name]:.0%}" for name in sorted(weights))
    return _Point(
        weights={main if name == losses.main else name: part for name, part in weights.items()},
        value=value,
        text=f"{text}<br>{told}",
        is_complete=is_complete,
    )


def _line(
    corners: Sequence[str],
    complete: Sequence[_Point],
    stopped: Sequence[_Point],
    objective: Objective,
) -> go.Figure:
    figure = go.Figure(
        [
            go.Scatter(
                x=[point.place(corners)[1] for point in points],
                y=[point.value for point in points],
                text=[point.text for point in points],
                name=name,
                mode="markers",
                marker=marker,
                hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
            )
            for name, points, marker in _kinds(complete, stopped, objective)
        ]
    )
    figure.update_xaxes(title_text=f"weight of {corners[1]} (the rest: {corners[0]})")
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(title_text=objective.metric)
    return figure


def _triangle(
    corners: Sequence[str],
    complete: Sequence[_Point],
    stopped: Sequence[_Point],
    objective: Objective,
) -> go.Figure:
    figure = go.Figure()
    for name, points, marker in _kinds(complete, stopped, objective):
        places = zip(*(point.place(corners) for point in points), strict=True)
        figure.add_trace(
            go.Scatterternary(
                **dict(zip("abc", places, strict=False)),
                text=[point.text for point in points],
                name=name,
                mode="markers",
                marker=marker,
                customdata=[point.value for point in points],
                cliponaxis=False,  # with one term off, a trial lies on an edge
                hovertemplate="%{text}<br>%{customdata:.4f}<extra></extra>",
            )
        )
    figure.update_layout(
        ternary={f"{axis}axis": {"title": name} for axis, name in zip("abc", corners, strict=True)}
    )
    return figure


def _kinds(
    complete: Sequence[_Point], stopped: Sequence[_Point], objective: Objective
) -> list[tuple[str, Sequence[_Point], dict[str, object]]]:
    """Name, points and looks of those that are drawn alike; the complete ones on top."""
    coloured = {
        "size": 11,
        "color": [point.value for point in complete],
        "colorscale": "Viridis",
        "reversescale": objective.direction == "minimize",
        "colorbar": {"title": objective.metric},
    }
    pale = {"size": 7, "color": "#94a3b8", "symbol": "circle-open"}
    return [("stopped early", stopped, pale), ("complete", complete, coloured)]
