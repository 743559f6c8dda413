"""Figures of trade-offs: the Pareto front, or with one objective its value by network size."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from orchestrator.figures.plot_data import (
    COLOR_SCALE,
    GRAY,
    HOVER_XY,
    HOVER_XYZ,
    ORANGE,
    PlotData,
    axis_title,
)
from orchestrator.objective import pareto_front
from orchestrator.trial import Trial


def pareto(data: PlotData) -> go.Figure | None:
    """Return the Pareto front of the first two or three objectives; None with one objective."""
    if len(data.objectives) < 2 or not data.complete:
        return None
    axes = data.objectives[:3]
    front = pareto_front(data.complete, data.objectives)
    dominated = [trial for trial in data.complete if trial not in front]
    figure = go.Figure()
    for name, trials, color in (("dominated", dominated, GRAY), ("Pareto front", front, ORANGE)):
        if trials:
            mode = "markers" if len(axes) == 3 or name == "dominated" else "lines+markers"
            _add_points(figure, data, trials, len(axes), name=name, color=color, mode=mode)
    titles = [axis_title(objective) for objective in axes]
    figure.update_layout(
        title=f"{data.title}: Pareto front",
        xaxis_title=titles[0],
        yaxis_title=titles[1],
        scene=dict(zip(("xaxis_title", "yaxis_title", "zaxis_title"), titles, strict=False)),
    )
    return figure


def _add_points(
    figure: go.Figure,
    data: PlotData,
    trials: Sequence[Trial],
    count: int,
    *,
    color: str,
    **style: Any,
) -> None:
    ordered = sorted(trials, key=lambda trial: trial.values or ())
    columns = zip(*((trial.values or ())[:count] for trial in ordered), strict=True)
    style = {
        **style,
        **dict(zip("xyz", columns, strict=False)),
        "text": data.hover(ordered),
        "marker": {"color": color, "size": 9},
        "line": {"color": color, "dash": "dot"},
    }
    if count == 2:
        figure.add_scatter(hovertemplate=HOVER_XY, **style)
    else:
        figure.add_scatter3d(hovertemplate=HOVER_XYZ, **style)


def size(data: PlotData) -> go.Figure | None:
    """Return the value by number of parameters; None with several objectives or no counts."""
    done = [trial for trial in data.complete if trial.cost.get("parameters")]
    if len(data.objectives) > 1 or not done:
        return None
    objective = data.objectives[0]
    points = go.Scatter(
        x=[trial.cost["parameters"] for trial in done],
        y=[(trial.values or ())[0] for trial in done],
        text=data.hover(done),
        mode="markers",
        marker={
            "size": 10,
            "color": [trial.number for trial in done],
            "colorscale": COLOR_SCALE,
            "colorbar": {"title": "trial"},
        },
        hovertemplate=HOVER_XY,
    )
    return go.Figure(points).update_layout(
        title=f"{data.title}: {objective.metric} by network size",
        xaxis={"title": "parameters", "type": "log"},
        yaxis_title=axis_title(objective),
    )
