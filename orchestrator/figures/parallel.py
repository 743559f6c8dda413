"""Figure of parallel coordinates: the most important parameters and the first objective."""

import math
from collections.abc import Sequence
from typing import Any

import optuna
import plotly.graph_objects as go

from orchestrator.figures.plot_data import COLOR_SCALE, PlotData, short_names
from orchestrator.trial import Trial

_MAX_AXES = 8
"""More axes are unreadable."""


def parallel(data: PlotData) -> go.Figure | None:
    """Return the parallel coordinates; None if the importance of parameters is unknown."""
    shares = data.importances[0]
    names = sorted(shares, key=lambda name: -shares[name])[:_MAX_AXES]
    if not names:
        return None
    labels = short_names(names)
    objective, values = data.objectives[0], data.values(0)
    axes = [_axis(labels[name], name, data.complete) for name in names]
    coordinates = go.Parcoords(
        dimensions=[*axes, {"label": objective.metric, "values": values}],
        line={
            "color": values,
            "colorscale": COLOR_SCALE,
            "reversescale": objective.direction == "minimize",
            "showscale": True,
            "colorbar": {"title": objective.metric},
        },
        labelangle=-15,
    )
    return go.Figure(coordinates).update_layout(
        title=f"{data.title}: parameters and {objective.metric} (drag along an axis to filter)",
        margin={"l": 90, "t": 160},
    )


def _axis(label: str, name: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return one parameter's axis: categories in their order, log-scaled ranges as logarithms."""
    distribution = optuna.distributions.json_to_distribution(trials[0].distributions[name])
    values = [trial.params[name] for trial in trials]
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        choices = list(distribution.choices)
        positions = list(range(len(choices)))
        texts = [str(choice) for choice in choices]
        indices = [choices.index(value) for value in values]
        return {"label": label, "values": indices, "tickvals": positions, "ticktext": texts}
    if getattr(distribution, "log", False):
        powers = [math.log10(value) for value in values]
        low, high = min(powers), max(powers)
        ticks = [low + (high - low) * step / 4 for step in range(5)]
        texts = [f"{10**tick:.3g}" for tick in ticks]
        return {"label": label, "values": powers, "tickvals": ticks, "ticktext": texts}
    return {"label": label, "values": values}
