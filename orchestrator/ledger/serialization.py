"""What may enter the ledger: plain data and finite numbers, nothing else."""

import json
import math
from collections.abc import Sequence
from typing import Any

from orchestrator.trial import TrialState


def to_json(value: Any) -> str:
    """The value as compact JSON.

    Raises:
        ValueError: It holds a number that is not finite; these never enter the ledger.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(f"the ledger keeps finite numbers only, not {value!r}") from error


def optional_json(value: Any) -> str | None:
    """The value as compact JSON; None as NULL."""
    return None if value is None else to_json(value)


def finite(what: str, value: float) -> float:
    """The value as a float.

    Raises:
        ValueError: It is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"the ledger keeps finite numbers only, not {what} = {value!r}")
    return float(value)


def check_values(state: TrialState, values: Sequence[float] | None) -> None:
    """Make sure that a trial has finite values if, and only if, it is COMPLETE.

    Raises:
        ValueError: It is otherwise.
    """
    if (values is not None) != (state is TrialState.COMPLETE):
        raise ValueError(f"a trial has values if, and only if, it is COMPLETE; not {state}")
    for index, value in enumerate(values or ()):
        finite(f"values[{index}]", value)
