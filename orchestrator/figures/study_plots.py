"""Plots of a study from its trials, as HTML pages: history, importance, trade-offs."""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.figures.loss_weights import weights_map
from orchestrator.figures.pages import to_page
from orchestrator.objective import Objective, best, pareto_front
from orchestrator.trial import Trial, TrialState

_log = logging.getLogger(__name__)

_FEW = 4
"""Below this many complete trials, importance says nothing."""
_AXES = 8
"""Decisions in the parallel coordinates, the most important ones: more cannot be read."""
_BARS = 12
"""Decisions in the picture of importance."""

_BLUE, _ORANGE, _GREY = "#2563eb", "#ea580c", "#94a3b8"
_SCALE = "Viridis"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    """All that a figure is drawn from."""

    title: str
    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]
    complete: tuple[Trial, ...]
    """Those that rank."""
    names: Mapping[str, str]
    shares: tuple[Mapping[str, float], ...] = ()
    """Share of each decision in what varied, for each objective; empty where that is unknown."""

    def hover(self, trials: Iterable[Trial]) -> list[str]:
        """What a point says when it is pointed at."""
        return [
            f"<b>{self.names.get(trial.uid, '')}</b><br>trial {trial.number}, "
            f"{trial.state.value.lower()}{_epochs(trial)}{_cost(trial)}"
            for trial in trials
        ]


def study_plots(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    names: Mapping[str, str],
    *,
    title: str,
    offline: bool = True,
) -> dict[str, str]:
    """Return the figures of `study_figures` as HTML pages by name.

    Args:
        trials: The study's, with their measurements.
        objectives: The study's objectives.
        names: Label of each trial by uid: its architecture in one line.
        title: The study's name.
        offline: Whether pages open without a network, which makes each of them 5 MB large.
    """
    figures = study_figures(trials, objectives, names, title=title)
    return {name: to_page(figure, offline=offline) for name, figure in figures.items()}


def study_figures(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    names: Mapping[str, str],
    *,
    title: str,
    only: Collection[str] | None = None,
) -> dict[str, go.Figure]:
    """Return the Plotly figures for which a study has enough trials.

    Args:
        trials: The study's, with their measurements.
        objectives: The study's objectives.
        names: Label of each trial by uid: its architecture in one line.
        title: The study's name.
        only: Names of the figures that are wanted; None for all.

    Returns:
        Figures by name: `history`, `importance`, `parallel`, `pareto` with several objectives or
        `size` with one, and `weights` where losses of several terms were weighted.
    """
    picture = _Picture(
        title=title,
        objectives=tuple(objectives),
        trials=tuple(trials),
        complete=tuple(trial for trial in trials if best([trial], objectives) is not None),
        names=names,
    )
    if only is None or {"importance", "parallel"} & {*only}:
        picture = replace(picture, shares=_all_shares(picture))
    figures = {}
    for name, draw in _DRAWN.items():
        figure = draw(picture) if only is None or name in only else None
        if figure is not None:
            figures[name] = figure.update_layout(template="plotly_white", title_font_size=18)
    return figures


def _history(picture: _Picture) -> go.Figure:
    metrics = [objective.metric for objective in picture.objectives]
    figure = make_subplots(rows=len(metrics), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, objective in enumerate(picture.objectives, start=1):
        place = {"row": row, "col": 1}
        stopped = [
            trial
            for trial in picture.trials
            if trial.state is TrialState.PRUNED
            and trial.measurements
            and objective.metric in trial.measurements[-1].metrics
        ]
        last = [trial.measurements[-1].metrics[objective.metric] for trial in stopped]
        first = row == 1
        gone = _points(picture, "stopped early", stopped, last, color=_GREY, is_first=first)
        figure.add_trace(gone, **place)
        done = sorted(picture.complete, key=lambda trial: trial.number)
        values = [(trial.values or ())[row - 1] for trial in done]
        reached = _points(picture, "complete", done, values, color=_BLUE, is_first=first)
        figure.add_trace(reached, **place)
        figure.add_trace(
            go.Scatter(
                x=[trial.number for trial in done],
                y=_best_so_far(values, objective),
                name="best so far",
                mode="lines",
                line={"color": _ORANGE, "shape": "hv", "width": 2},
                hoverinfo="skip",
                legendgroup="best so far",
                showlegend=first,
            ),
            **place,
        )
        figure.update_yaxes(title_text=_axis(objective), **place)
    figure.update_xaxes(title_text="trial", row=len(metrics), col=1)
    figure.update_layout(title=f"{picture.title}: what each trial reached")
    return figure


def _points(
    picture: _Picture,
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
        text=picture.hover(trials),
        name=name,
        legendgroup=name,
        showlegend=is_first,
        mode="markers",
        marker={"color": color, "size": 8, "opacity": 0.8},
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
    )


def _importance(picture: _Picture) -> go.Figure | None:
    shares = picture.shares
    if not any(shares):
        return None
    ordered = sorted({name for share in shares for name in share}, key=lambda n: _total(shares, n))
    shown = ordered[-_BARS:]
    labels = short_names(shown)
    figure = go.Figure(
        [
            go.Bar(
                y=[labels[name] for name in shown],
                x=[share.get(name, 0.0) for name in shown],
                customdata=shown,
                name=objective.metric,
                orientation="h",
                marker_color=color,
                hovertemplate="%{customdata}<br>%{x:.1%}<extra></extra>",
            )
            for share, objective, color in zip(
                shares, picture.objectives, _colors(len(shares)), strict=True
            )
        ]
    )
    figure.update_layout(
        title=f"{picture.title}: which decisions mattered (of those every trial made)",
        xaxis={"title": "share of the variance explained (fANOVA)", "tickformat": ".0%"},
        yaxis={"title": "decision", "automargin": True},
        barmode="group",
        height=max(400, 28 * len(shown) + 160),
    )
    return figure


def _all_shares(picture: _Picture) -> tuple[Mapping[str, float], ...]:
    if len(picture.complete) < _FEW:
        return tuple({} for _ in picture.objectives)
    return tuple(_shares(picture, index) for index in range(len(picture.objectives)))


def _shares(picture: _Picture, index: int) -> dict[str, float]:
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        study = _optuna_study(picture, index)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError) as reason:
        # Optuna refuses to judge values that never varied; the other pictures stand.
        _log.info("no importance: %s", reason)
        return {}


def _parallel(picture: _Picture) -> go.Figure | None:
    shares = picture.shares[0]
    names = sorted(shares, key=lambda name: -shares[name])[:_AXES]
    if not names:
        return None
    labels = short_names(names)
    objective = picture.objectives[0]
    values = [(trial.values or ())[0] for trial in picture.complete]
    last = {"label": objective.metric, "values": values}
    axes = [_axis_of(labels[name], name, picture.complete) for name in names]
    figure = go.Figure(
        go.Parcoords(
            dimensions=[*axes, last],
            line={
                "color": values,
                "colorscale": _SCALE,
                "reversescale": objective.direction == "minimize",
                "showscale": True,
                "colorbar": {"title": objective.metric},
            },
            labelangle=-15,
        )
    )
    figure.update_layout(
        title=f"{picture.title}: decisions and {objective.metric} (drag along an axis to filter)",
        margin={"l": 90, "t": 160},
    )
    return figure


def _axis_of(label: str, name: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """One decision as an axis: choices in their order, wide ranges by their logarithm."""
    distribution = optuna.distributions.json_to_distribution(trials[0].distributions[name])
    values = [trial.params[name] for trial in trials]
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        choices = list(distribution.choices)
        places = list(range(len(choices)))
        texts = [str(choice) for choice in choices]
        at = [choices.index(value) for value in values]
        return {"label": label, "values": at, "tickvals": places, "ticktext": texts}
    if getattr(distribution, "log", False):
        powers = [math.log10(value) for value in values]
        low, high = min(powers), max(powers)
        ticks = [low + (high - low) * step / 4 for step in range(5)]
        texts = [f"{10**tick:.3g}" for tick in ticks]
        return {"label": label, "values": powers, "tickvals": ticks, "ticktext": texts}
    return {"label": label, "values": values}


def _pareto(picture: _Picture) -> go.Figure | None:
    if len(picture.objectives) < 2 or not picture.complete:
        return None
    axes = picture.objectives[:3]
    front = pareto_front(picture.complete, picture.objectives)
    rest = [trial for trial in picture.complete if trial not in front]
    figure = go.Figure()
    for name, trials, color in (("dominated", rest, _GREY), ("Pareto front", front, _ORANGE)):
        ordered = sorted(trials, key=lambda trial: trial.values or ())
        columns = list(zip(*((trial.values or ())[: len(axes)] for trial in ordered), strict=True))
        if not columns:
            continue
        style = {
            "name": name,
            "text": picture.hover(ordered),
            "marker": {"color": color, "size": 9},
            "line": {"color": color, "dash": "dot"},
            "mode": "lines+markers" if len(axes) == 2 and name != "dominated" else "markers",
        }
        if len(axes) == 2:
            figure.add_scatter(x=columns[0], y=columns[1], hovertemplate=_XY, **style)
        else:
            figure.add_scatter3d(
                x=columns[0], y=columns[1], z=columns[2], hovertemplate=_XYZ, **style
            )
    titles = [_axis(objective) for objective in axes]
    figure.update_layout(
        title=f"{picture.title}: no trial beats those on the front in every objective",
        xaxis_title=titles[0],
        yaxis_title=titles[1],
        scene=dict(zip(("xaxis_title", "yaxis_title", "zaxis_title"), titles, strict=False)),
    )
    return figure


def _size(picture: _Picture) -> go.Figure | None:
    if len(picture.objectives) > 1:
        return None
    done = [trial for trial in picture.complete if trial.cost.get("parameters")]
    if not done:
        return None
    objective = picture.objectives[0]
    figure = go.Figure(
        go.Scatter(
            x=[trial.cost["parameters"] for trial in done],
            y=[(trial.values or ())[0] for trial in done],
            text=picture.hover(done),
            mode="markers",
            marker={
                "size": 10,
                "color": [trial.number for trial in done],
                "colorscale": _SCALE,
                "colorbar": {"title": "trial"},
            },
            hovertemplate=_XY,
        )
    )
    figure.update_layout(
        title=f"{picture.title}: what size buys",
        xaxis={"title": "parameters", "type": "log"},
        yaxis_title=_axis(objective),
    )
    return figure


_XY = "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>"
_XYZ = "%{text}<br>%{x:.4g}, %{y:.4g}, %{z:.4g}<extra></extra>"

_DRAWN: Mapping[str, Callable[[_Picture], go.Figure | None]] = {
    "history": _history,
    "importance": _importance,
    "parallel": _parallel,
    "pareto": _pareto,
    "size": _size,
    "weights": lambda p: weights_map(p.title, p.objectives[0], p.trials, p.hover(p.trials)),
}


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The shortest endings that tell the paths apart: two words at least, no number in front."""
    short = {}
    for name in names:
        parts = name.split(".")
        for count in range(min(2, len(parts)), len(parts) + 1):
            ending = ".".join(parts[-count:])
            is_clear = not parts[-count].isdigit()
            if is_clear and sum(f".{other}".endswith(f".{ending}") for other in names) == 1:
                break
        short[name] = ending
    return short


def _optuna_study(picture: _Picture, index: int) -> optuna.Study:
    """Complete trials with one objective, as Optuna's own functions take them."""
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            direction=picture.objectives[index].direction,
            storage=optuna.storages.InMemoryStorage(),
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
    finally:
        optuna.logging.set_verbosity(loud)
    study.add_trials(
        [
            optuna.trial.create_trial(
                value=(trial.values or ())[index],
                params=dict(trial.params),
                distributions={
                    name: optuna.distributions.json_to_distribution(text)
                    for name, text in trial.distributions.items()
                },
            )
            for trial in picture.complete
        ]
    )
    return study


def _best_so_far(values: Sequence[float], objective: Objective) -> list[float]:
    found: list[float] = []
    for value in values:
        ahead = found[-1] if found else value
        found.append(max(ahead, value, key=objective.score))
    return found


def _total(shares: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(share.get(name, 0.0) for share in shares)


def _colors(count: int) -> list[str]:
    palette = [_BLUE, _ORANGE, "#16a34a", "#9333ea", "#dc2626", "#0891b2"]
    return [palette[index % len(palette)] for index in range(count)]


def _axis(objective: Objective) -> str:
    better = "higher" if objective.direction == "maximize" else "lower"
    return f"{objective.metric} ({better} is better)"


def _epochs(trial: Trial) -> str:
    return f" after {trial.measurements[-1].fidelity} epochs" if trial.measurements else ""


def _cost(trial: Trial) -> str:
    size = trial.cost.get("parameters")
    return f"<br>{int(size):,} parameters" if size else ""
