"""Format numbers, sizes, durations and tables for people."""

from collections.abc import Mapping, Sequence

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_number(value: float) -> str:
    """Return a number at a readable length: `0.9721`, `18,634`, `1.2e-05`."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def format_si(value: float, unit: str = "") -> str:
    """Return a number of any size with three digits: `345 k`, `2.54 M`, `149 kB`."""
    for factor, prefix in _PREFIXES:
        if value >= 0.9995 * factor:  # rounded to three digits
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def format_bytes(size: float) -> str:
    """Return a size in decimal units: `300 B`, `1.26 MB`."""
    return format_si(size, "B")


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_fields(fields: Mapping[str, str]) -> str:
    """Return names and values in two columns."""
    width = max(map(len, fields))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in fields.items())


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> str:
    """Return aligned columns below a line of headings.

    Args:
        head: Column names.
        rows: Cells, one for each column name.
        right: Names of right-aligned columns.
    """
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = (
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    )
    return "\n".join(padded)


METRIC_NAMES = {
    "val_accuracy": "accuracy",
    "val_mae": "mean absolute error",
    "val_rmse": "RMSE in standard deviations",
}
"""Names of metrics that are scored again at a promotion."""


def format_score(metric: str, score: float) -> str:
    """Return a score with the name of its metric."""
    return f"{METRIC_NAMES[f'val_{metric}']} {format_number(score)}"
