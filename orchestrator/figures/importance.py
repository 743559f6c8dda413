"""Figure of hyperparameter importance, by fANOVA over the complete trials."""

import itertools
import logging
from collections.abc import Mapping

import optuna
import plotly.graph_objects as go

from orchestrator.figures.plot_data import PALETTE, PlotData, short_names

_log = logging.getLogger(__name__)

_MIN_TRIALS = 4
"""With fewer complete trials importance is meaningless."""
_MAX_BARS = 12


def importances(data: PlotData) -> tuple[Mapping[str, float], ...]:
    """Return the importance of each parameter, by objective; empty with too few trials."""
    if len(data.complete) < _MIN_TRIALS:
        return tuple({} for _ in data.objectives)
    return tuple(_importances(data, index) for index in range(len(data.objectives)))


def _importances(data: PlotData, index: int) -> dict[str, float]:
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        study = _optuna_study(data, index)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError) as error:
        # Optuna refuses values that are all equal; the other figures remain.
        _log.info("no importance: %s", error)
        return {}


def _optuna_study(data: PlotData, index: int) -> optuna.Study:
    """Return the complete trials with one objective, as input of Optuna's functions."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            direction=data.objectives[index].direction,
            storage=optuna.storages.InMemoryStorage(),
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
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
            for trial in data.complete
        ]
    )
    return study


def importance(data: PlotData) -> go.Figure | None:
    """Return bars of the most important parameters; None if importance is unknown."""
    shares = data.importances
    if not any(shares):
        return None
    names = {name for share in shares for name in share}
    ordered = sorted(names, key=lambda name: sum(share.get(name, 0.0) for share in shares))
    shown = ordered[-_MAX_BARS:]
    labels = short_names(shown)
    bars = [
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
            shares, data.objectives, itertools.cycle(PALETTE), strict=False
        )
    ]
    return go.Figure(bars).update_layout(
        title=f"{data.title}: hyperparameter importance (parameters that every trial has)",
        xaxis={"title": "share of the explained variance (fANOVA)", "tickformat": ".0%"},
        yaxis={"title": "parameter", "automargin": True},
        barmode="group",
        height=max(400, 28 * len(shown) + 160),
    )
