"""A study's loss weightings as a map: where on the simplex each trial lay, and how well it did.

Reads trials as values; knows where nothing lies.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from orchestrator.objective import Objective
from orchestrator.trial import Trial
from search_spaces.loss_weights import LossWeights

CORNERS = 3
"""Terms that a plane can show."""


def weights_map(
    title: str, objective: Objective, trials: Sequence[Trial], texts: Sequence[str]
) -> go.Figure | None:
    """The decided weights of complete trials, coloured by an objective.

    Two terms make a line, drawn against the objective; three a triangle. Of more, the three that
    most trials have stand at the corners, each trial where the ratio of those puts it.

    Args:
        title: The study's name.
        objective: What colours; the first of the study's.
        trials: Those that rank.
        texts: What each says when it is pointed at.

    Returns:
        The figure; None where no trial weighs two terms.
    """
    placed = [(shares(trial), trial, text) for trial, text in zip(trials, texts, strict=True)]
    often = Counter(name for found, _, _ in placed for name in found)
    names = [name for name, _ in often.most_common(CORNERS)]
    placed = [each for each in placed if any(each[0].get(name) for name in names)]
    if len(names) < 2 or not placed:
        return None
    values = [(trial.values or ())[0] for _, trial, _ in placed]
    parts = [_ratio(found, names) for found, _, _ in placed]
    said = [
        f"{text}<br>" + ", ".join(f"{name} {found[name]:.0%}" for name in sorted(found))
        for found, _, text in placed
    ]
    marker = {
        "size": 11,
        "color": values,
        "colorscale": "Viridis",
        "reversescale": objective.direction == "minimize",
    }
    draw = _triangle if len(names) == CORNERS else _line
    figure = draw(names, parts, marker, said, objective.metric)
    figure.update_layout(title=f"{title}: weights of the loss terms and {objective.metric}")
    return figure


def shares(trial: Trial) -> Mapping[str, float]:
    """A trial's decided weights by term, summing to one; empty where it has none of ours."""
    losses = trial.candidate.get("losses")
    return {} if losses is None else LossWeights.from_dict(losses).shares()


def _ratio(found: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...]:
    total = sum(found.get(name, 0.0) for name in names)
    return tuple(found.get(name, 0.0) / total for name in names)


def _line(
    names: Sequence[str],
    parts: Sequence[tuple[float, ...]],
    marker: Mapping[str, Any],
    said: Sequence[str],
    metric: str,
) -> go.Figure:
    figure = go.Figure(
        go.Scatter(
            x=[part[1] for part in parts],
            y=marker["color"],
            text=said,
            mode="markers",
            marker=marker,
            hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text=f"weight of {names[1]} (the rest: {names[0]})", range=[0, 1])
    figure.update_yaxes(title_text=metric)
    return figure


def _triangle(
    names: Sequence[str],
    parts: Sequence[tuple[float, ...]],
    marker: Mapping[str, Any],
    said: Sequence[str],
    metric: str,
) -> go.Figure:
    figure = go.Figure(
        go.Scatterternary(
            **dict(zip("abc", zip(*parts, strict=True), strict=True)),
            text=said,
            mode="markers",
            marker={**marker, "colorbar": {"title": metric}},
            customdata=marker["color"],
            hovertemplate="%{text}<br>%{customdata:.4f}<extra></extra>",
        )
    )
    figure.update_layout(
        ternary={f"{axis}axis": {"title": name} for axis, name in zip("abc", names, strict=True)}
    )
    return figure
