"""Figure of a study's confirmation: each candidate's gain over the default, with its interval."""

from dataclasses import dataclass

import plotly.graph_objects as go

from orchestrator.confirmation.answer import ConfirmedCandidate, answer
from orchestrator.confirmation.racing import Estimate
from orchestrator.confirmation.results import read_confirmation
from orchestrator.figures.plot_data import BLUE, GRAY, ORANGE, PlotData
from orchestrator.objective import main_objective

_ROW_HEIGHT = 64
_RESULT_WIDTH = 200
"""Pixels right of the axis, where results are written."""
_BELOW = 0.2
"""Distance of the differences of single seeds from their interval, in rows."""
_MAX_NAME = 40
"""Characters of an architecture that fit left of the axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One candidate; gains are in the unit of the axis."""

    candidate: ConfirmedCandidate
    gain: Estimate
    name: str
    differences: list[float]
    """Gain by seed."""
    is_winner: bool
    scale: float

    @property
    def label(self) -> str:
        """Text left of the axis."""
        number, name = f"trial {self.candidate.trial}", self.name
        short = name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
        return (
            f"<b>{number}, the winner</b><br>{short}" if self.is_winner else f"{number}<br>{short}"
        )

    @property
    def result(self) -> str:
        """Text right of the axis."""
        form = "+.1f" if self.scale > 1 else "+.3g"
        numbers = (self.gain.mean, self.gain.low, self.gain.high)
        mean, low, high = (format(self.scale * number, form) for number in numbers)
        return f"{mean} ({low} to {high})<br>{self.gain.seeds} seeds: {self.candidate.verdict}"

    def add_to(self, figure: go.Figure, place: int) -> None:
        """Draw the interval, the differences below it, and the result on the right."""
        half = self.scale * (self.gain.high - self.gain.mean)
        figure.add_scatter(
            x=[self.scale * self.gain.mean],
            y=[place],
            error_x={"array": [half], "thickness": 2.5, "width": 8},
            marker={"color": ORANGE if self.is_winner else BLUE, "size": 12},
            hovertemplate=f"<b>{self.name}</b><br>{self.result}<extra></extra>",
        )
        figure.add_scatter(
            x=[self.scale * difference for difference in self.differences],
            y=[place - _BELOW] * len(self.differences),
            mode="markers",
            marker={"color": GRAY, "size": 7, "opacity": 0.7},
            hovertemplate="one seed: %{x:+.3g}<extra></extra>",
        )
        figure.add_annotation(
            x=1.01,
            xref="paper",
            xanchor="left",
            y=place,
            text=self.result,
            align="left",
            showarrow=False,
        )


def confirmation(data: PlotData) -> go.Figure | None:
    """Return gains over the default with 95 % intervals; None before the first comparison.

    The points below an interval are the differences of single seeds.
    """
    rows = _rows(data)
    if not rows:
        return None
    sentence = answer(data.title, data.trials, data.objectives, program=None).sentence
    figure = go.Figure()
    for place, row in enumerate(rows):
        row.add_to(figure, place)
    figure.add_vline(x=0, line={"color": "black", "width": 1})
    figure.add_annotation(x=0, y=1, yref="paper", yanchor="bottom", text="default", showarrow=False)
    metric, unit = main_objective(data.objectives).metric, ", in points" * (rows[0].scale > 1)
    return figure.update_layout(
        title={"text": f"{data.title}: confirmation", "subtitle": {"text": sentence}},
        xaxis={
            "title": f"gain over the default in {metric}{unit}, with 95 % intervals",
            "zeroline": False,
        },
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [row.label for row in rows],
            "range": [-0.6, len(rows) - 0.4],
            "automargin": True,
            "showgrid": False,
            "zeroline": False,
        },
        showlegend=False,
        margin={"r": _RESULT_WIDTH},
        height=200 + _ROW_HEIGHT * len(rows),
    )


def _rows(data: PlotData) -> list[_Row]:
    """Return the candidates that were compared with the default, the best one last."""
    found = read_confirmation(data.trials, data.objectives)
    if found is None or found.default is None:
        return []
    given = answer(data.title, data.trials, data.objectives, program=None)
    reference, contestants = found.default.scores, {c.trial.number: c for c in found.candidates}
    rows = [
        _Row(
            candidate=each,
            gain=each.gain,
            name=data.names.get(contestants[each.trial].trial.uid, ""),
            differences=[
                score - reference[seed]
                for seed, score in contestants[each.trial].scores.items()
                if seed in reference
            ],
            is_winner=each.trial == given.winner,
            scale=100 if given.in_points else 1,
        )
        for each in given.candidates
        if each.gain is not None
    ]
    return sorted(rows, key=lambda row: row.gain.mean)
