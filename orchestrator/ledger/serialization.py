"""Conversion between records and rows: a column `NAME_json` is the field `NAME` as JSON.

Only plain data and finite numbers enter the ledger.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Row, Table

from orchestrator.trial import TrialState

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_JSON = "_json"


def to_json(value: Any) -> str:
    """Return a value as compact JSON.

    Raises:
        ValueError: It contains a number that is not finite.
        TypeError: It contains an object that is not plain data.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_to_dict)
    except ValueError as error:
        raise ValueError(f"the ledger keeps finite numbers only, not {value!r}") from error


def _to_dict(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"the ledger keeps plain data only, not {type(value).__name__}")


def optional_json(value: Any) -> str | None:
    """Return a value as compact JSON; None for None, which is NULL."""
    return None if value is None else to_json(value)


def columns_of(record: "type[DataclassInstance]", table: Table) -> list[Column[Any]]:
    """Return the columns of a table that store fields of a record."""
    names = {field.name for field in fields(record)}
    return [column for column in table.columns if column.name.removesuffix(_JSON) in names]


def to_row(record: "DataclassInstance", table: Table) -> dict[str, Any]:
    """Return a record's fields as values by column."""
    row = {}
    for column in columns_of(type(record), table):
        value = getattr(record, column.name.removesuffix(_JSON))
        row[column.name] = optional_json(value) if column.name.endswith(_JSON) else value
    return row


def from_row(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """Return a row's values by field of its record."""
    return from_columns(row._asdict())


def from_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of columns by field of their record."""
    return {
        name.removesuffix(_JSON): json.loads(value)
        if name.endswith(_JSON) and value is not None
        else value
        for name, value in values.items()
    }


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> dict[str, list[Any]]:
    """Return old and new value of everything that differs, by path; None where it is missing.

    Examples:
        >>> differences({"stop": {"trials": 4, "hours": 1}}, {"stop": {"trials": 8, "hours": 1}})
        {'stop.trials': [4, 8]}
    """
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys([*before, *after]):
        old, new, path = before.get(key), after.get(key), f"{prefix}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= differences(old, new, f"{path}.")
        elif old != new:
            found[path] = [old, new]
    return found


def finite(name: str, value: float) -> float:
    """Return a number as a float.

    Raises:
        ValueError: It is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"the ledger keeps finite numbers only, not {name} = {value!r}")
    return float(value)


def check_values(state: TrialState, values: Sequence[float] | None) -> None:
    """Require that a trial has finite values exactly if it is COMPLETE.

    Raises:
        ValueError: It has none, has some in another state, or one is not finite.
    """
    if (values is not None) != (state is TrialState.COMPLETE):
        raise ValueError(f"a trial has values if, and only if, it is COMPLETE; not {state}")
    for index, value in enumerate(values or ()):
        finite(f"values[{index}]", value)
