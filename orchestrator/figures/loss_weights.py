"""Figure of the loss weights of a study's trials: positions on their simplex, colored by result."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from orchestrator.objective import Objective
from orchestrator.trial import Trial, TrialState
from search_spaces.loss_terms import LossWeights

MAX_CORNERS = 3
"""Number of loss terms that a triangle can show."""
MAIN = "main term"
"""Label of the main terms' corner if trials have different ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """Weights and result of one trial."""

    weights: Mapping[str, float]
    value: float
    """The objective at the trial's last epoch."""
    text: str
    is_complete: bool

    def position(self, corners: Sequence[str]) -> list[float]:
        """Return its weights at these corners, normalized to sum to 1."""
        parts = [self.weights.get(corner, 0.0) for corner in corners]
        total = sum(parts) or 1.0  # all its weight may belong to terms without a corner
        return [part / total for part in parts]


def loss_weights(
    title: str, objective: Objective, trials: Sequence[Trial], texts: Sequence[str]
) -> go.Figure | None:
    """Return the final loss weights of trials; complete ones are colored by an objective.

    Two terms are plotted as a line against the objective, three as a triangle. With more, the
    corners are the main term and the two most frequent others, and each trial is placed by the
    ratio of these. All main terms share one corner.

    Args:
        title: The study's name.
        objective: Objective of the color scale.
        trials: The study's trials.
        texts: Hover text of each trial.

    Returns:
        The figure; None if no complete trial has two terms.
    """
    main_terms = {losses.main for trial in trials if (losses := _losses(trial)) is not None}
    main = next(iter(main_terms)) if len(main_terms) == 1 else MAIN
    points = [
        point
        for trial, text in zip(trials, texts, strict=True)
        if (point := _point(trial, objective.metric, main, text)) is not None
    ]
    frequency = Counter(name for point in points for name in point.weights if name != main)
    corners = [main, *(name for name, _ in frequency.most_common(MAX_CORNERS - 1))]
    complete = [point for point in points if point.is_complete]
    if not any(len(point.weights) > 1 for point in complete):
        return None
    draw = _triangle if len(corners) == MAX_CORNERS else _line
    figure = draw(corners, complete, [p for p in points if not p.is_complete], objective)
    figure.update_layout(
        title=f"{title}: weights of the loss terms and {objective.metric}",
        legend={"orientation": "h", "y": -0.12},
    )
    return figure


def _losses(trial: Trial) -> LossWeights | None:
    """Return a trial's loss weights; None for a define-by-run space."""
    losses = trial.candidate.get("losses")
    return None if losses is None else LossWeights.from_dict(losses)


def _point(trial: Trial, metric: str, main: str, text: str) -> _Point | None:
    """Return a trial's weights and result; None if one of them is unknown."""
    losses = _losses(trial)
    last = trial.measurements[-1].metrics if trial.measurements else {}
    is_complete = trial.state is TrialState.COMPLETE and bool(trial.values)
    value = (trial.values or (None,))[0] if is_complete else last.get(metric)
    if losses is None or value is None:
        return None
    # A balancer may have changed the sampled weights during training.
    weights = {
        name: last.get(f"weights/{name}", share)
        for name, share in losses.normalized_weights().items()
    }
    listed = ", ".join(f"{name} {weights[name]:.0%}" for name in sorted(weights))
    return _Point(
        weights={main if name == losses.main else name: part for name, part in weights.items()},
        value=value,
        text=f"{text}<br>{listed}",
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
                x=[point.position(corners)[1] for point in points],
                y=[point.value for point in points],
                text=[point.text for point in points],
                name=name,
                mode="markers",
                marker=marker,
                hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
            )
            for name, points, marker in _traces(complete, stopped, objective)
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
    for name, points, marker in _traces(complete, stopped, objective):
        places = zip(*(point.position(corners) for point in points), strict=True)
        figure.add_trace(
            go.Scatterternary(
                **dict(zip("abc", places, strict=False)),
                text=[point.text for point in points],
                name=name,
                mode="markers",
                marker=marker,
                customdata=[point.value for point in points],
                cliponaxis=False,  # without one term, a trial is on an edge
                hovertemplate="%{text}<br>%{customdata:.4f}<extra></extra>",
            )
        )
    figure.update_layout(
        ternary={f"{axis}axis": {"title": name} for axis, name in zip("abc", corners, strict=True)}
    )
    return figure


def _traces(
    complete: Sequence[_Point], stopped: Sequence[_Point], objective: Objective
) -> list[tuple[str, Sequence[_Point], dict[str, object]]]:
    """Return name, points and marker of each trace; complete trials on top."""
    colored = {
        "size": 11,
        "color": [point.value for point in complete],
        "colorscale": "Viridis",
        "reversescale": objective.direction == "minimize",
        "colorbar": {"title": objective.metric},
    }
    pale = {"size": 7, "color": "#94a3b8", "symbol": "circle-open"}
    return [("stopped early", stopped, pale), ("complete", complete, colored)]
