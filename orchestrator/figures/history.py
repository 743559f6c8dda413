"""Figure of a study's optimization history: each trial's result and the best so far."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.figures.plot_data import BLUE, GRAY, ORANGE, PlotData, axis_title
from orchestrator.objective import Objective
from orchestrator.trial import Trial, TrialState


def history(data: PlotData) -> go.Figure:
    """Return values over trial numbers, with one row for each objective."""
    count = len(data.objectives)
    figure = make_subplots(rows=count, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, objective in enumerate(data.objectives, start=1):
        for trace in _traces(data, row - 1, objective):
            figure.add_trace(trace, row=row, col=1)
        figure.update_yaxes(title_text=axis_title(objective), row=row, col=1)
    figure.update_xaxes(title_text="trial", row=count, col=1)
    figure.update_layout(title=f"{data.title}: optimization history")
    return figure


def _traces(data: PlotData, index: int, objective: Objective) -> list[go.Scatter]:
    metric, first = objective.metric, index == 0
    pruned = [
        trial
        for trial in data.trials
        if trial.state is TrialState.PRUNED
        and trial.measurements
        and metric in trial.measurements[-1].metrics
    ]
    last = [trial.measurements[-1].metrics[metric] for trial in pruned]
    done = sorted(data.complete, key=lambda trial: trial.number)
    values = [(trial.values or ())[index] for trial in done]
    best = go.Scatter(
        x=[trial.number for trial in done],
        y=_best_so_far(values, objective),
        name="best so far",
        mode="lines",
        line={"color": ORANGE, "shape": "hv", "width": 2},
        hoverinfo="skip",
        legendgroup="best so far",
        showlegend=first,
    )
    return [
        _points(data, "stopped early", pruned, last, color=GRAY, is_first=first),
        _points(data, "complete", done, values, color=BLUE, is_first=first),
        best,
    ]


def _points(
    data: PlotData,
    name: str,
    trials: list[Trial],
    values: list[float],
    *,
    color: str,
    is_first: bool,
) -> go.Scatter:
    return go.Scatter(
        x=[trial.number for trial in trials],
        y=values,
        text=data.hover(trials),
        name=name,
        legendgroup=name,
        showlegend=is_first,
        mode="markers",
        marker={"color": color, "size": 8, "opacity": 0.8},
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
    )


def _best_so_far(values: Sequence[float], objective: Objective) -> list[float]:
    best: list[float] = []
    for value in values:
        previous = best[-1] if best else value
        best.append(max(previous, value, key=objective.score))
    return best
