"""Names of the metrics that a study can use."""

from collections.abc import Sequence

TRAINER_METRICS = (
    *("train_accuracy", "train_loss", "train_mae", "train_rmse"),
    *("val_accuracy", "val_loss", "val_mae", "val_rmse"),
)
"""Metrics of the trainer after every epoch: accuracy for classes, `rmse` for regression targets,
and `mae` for a single target or `mae/NAME` for each of several.

Both losses are the unweighted main term: only that is comparable between loss weightings."""
COST_METRICS = ("activation_bytes", "flops", "parameters")
"""Costs that are counted before a candidate is trained."""
MAX_NAMED = 16
"""Maximum number of regression targets with a `mae/NAME` of their own."""


def mae_names(value_names: Sequence[str]) -> list[str]:
    """Return the metric names of the mean absolute errors, one per target: units may differ."""
    if len(value_names) == 1:
        return ["mae"]
    return [f"mae/{name}" for name in value_names[:MAX_NAMED]]


def measured_metrics(train: str | None = None) -> tuple[str, ...] | None:
    """Return the metrics that a study can optimize, sorted; None if only the user's code knows.

    Args:
        train: The `train` key of the study: `file.py:name` of the user's generator, or None.
    """
    return tuple(sorted(TRAINER_METRICS + COST_METRICS)) if train is None else None
