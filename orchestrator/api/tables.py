"""Tables of the API: pandas data frames, and HTML for notebooks."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from orchestrator.study.leaderboard import Leaderboard

if TYPE_CHECKING:
    from orchestrator.api.trial import FrozenTrial


def trials_frame(trials: "Sequence[FrozenTrial]", metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row a trial, with the columns of Optuna's `trials_dataframe`.

    Args:
        trials: In the order of the rows.
        metrics: The study's objectives; one gives the column `value`, several `values_METRIC`.
    """
    names = {metrics[0]: "value"} if len(metrics) == 1 else {m: f"values_{m}" for m in metrics}
    rows = []
    for trial in trials:
        values = trial.values or {}
        rows.append(
            {
                "number": trial.number,
                **{column: values.get(metric) for metric, column in names.items()},
                "datetime_start": trial.datetime_start,
                "datetime_complete": trial.datetime_complete,
                "duration": trial.duration,
                "state": trial.state.value,
                "reason": trial.reason,
                "epochs": len(trial.history),
                **trial.cost,
                "architecture": trial.architecture,
                **{f"params_{name}": value for name, value in trial.params.items()},
            }
        )
    columns = ["number", *names.values(), "state"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def definition_list(title: str, entries: Mapping[str, str]) -> str:
    """Return names and values as an HTML table under a title."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in entries.items()
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{rows}</tbody></table>"


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as an HTML table."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row.values())}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def board_rows(board: Leaderboard, top: int | None) -> list[dict[str, Any]]:
    """Return the leaderboard's rows with one column an objective."""
    return [
        {
            "rank": row.rank,
            "trial": row.trial,
            **row.values,
            **({} if row.distance is None else {"distance": row.distance}),
            **({"on_front": row.on_front} if len(board.objectives) > 1 else {}),
            "epochs": row.epochs,
            **({} if row.best_epoch is None else {"best_epoch": row.best_epoch}),
            "parameters": row.parameters,
            "elapsed_s": row.elapsed_s,
            "architecture": row.architecture,
        }
        for row in board.rows[:top]
    ]
