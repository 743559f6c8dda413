"""The names of what is measured, for whoever must tell a misspelt metric from a real one."""

from collections.abc import Sequence

TRAINER_METRICS = (
    *("train_accuracy", "train_loss", "train_mae", "train_rmse"),
    *("val_accuracy", "val_loss", "val_mae", "val_rmse"),
)
"""What the trainer measures after every epoch: accuracy where the data has classes, `rmse` where
it has numbers to be foretold, and `mae` where it is one; `mae/NAME` for each of several.

Both losses are the unweighted main term: only that is comparable between loss weightings."""
COST_METRICS = ("activation_bytes", "flops", "parameters")
"""What screening counts before a candidate is trained."""
MAX_NAMED = 16
"""Numbers that are told an error each; of more, only what they come to together."""


def mae_names(value_names: Sequence[str]) -> list[str]:
    """What the errors of numbers are called: of different units, no two make a sum."""
    if len(value_names) == 1:
        return ["mae"]
    return [f"mae/{name}" for name in value_names[:MAX_NAMED]]


def measured_metrics(train: str | None = None) -> tuple[str, ...] | None:
    """The metrics that a study can aim at, sorted; None: only the user's generator knows.

    Args:
        train: The study's `train` key: `file.py:name` of the user's own generator, or None.
    """
    return tuple(sorted(TRAINER_METRICS + COST_METRICS)) if train is None else None
