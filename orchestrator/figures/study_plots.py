"""Plotly figures of a study, one module each, and the same as HTML pages."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import plotly.graph_objects as go

from orchestrator.figures.confirmation import confirmation
from orchestrator.figures.history import history
from orchestrator.figures.importance import importance, importances
from orchestrator.figures.loss_weights import loss_weights
from orchestrator.figures.pages import to_page
from orchestrator.figures.parallel import parallel
from orchestrator.figures.pareto import pareto, size
from orchestrator.figures.plot_data import PlotData
from orchestrator.objective import Objective, best
from orchestrator.trial import Trial


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
        `size` with one, `weights` where losses of several terms were weighted, and `confirmation`
        once candidates were compared with the default.
    """
    data = PlotData(
        title=title,
        objectives=tuple(objectives),
        trials=tuple(trials),
        complete=tuple(trial for trial in trials if best([trial], objectives) is not None),
        names=names,
    )
    if only is None or {"importance", "parallel"} & {*only}:
        data = replace(data, importances=importances(data))
    figures = {}
    for name, draw in _FIGURES.items():
        figure = draw(data) if only is None or name in only else None
        if figure is not None:
            figures[name] = figure.update_layout(template="plotly_white", title_font_size=18)
    return figures


_FIGURES: Mapping[str, Callable[[PlotData], go.Figure | None]] = {
    "history": history,
    "importance": importance,
    "parallel": parallel,
    "pareto": pareto,
    "size": size,
    "weights": lambda data: loss_weights(
        data.title, data.objectives[0], data.trials, data.hover(data.trials)
    ),
    "confirmation": confirmation,
}
