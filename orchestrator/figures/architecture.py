"""Drawing of a network: its blocks in order, parallel branches one above the other, and shapes.

Blue marks convolutions, orange attention, purple recurrence, green gates and other learned mixes,
gray everything else. Reads the plain data of a candidate: loads neither torch nor user code.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.figures import svg
from orchestrator.figures.architecture_labels import (
    Fields,
    Label,
    LabelRows,
    block_label,
    block_rows,
    format_shape,
    fusion_label,
    head_label,
    shorten,
)
from search_spaces.task import Task

Shapes = Mapping[str, Sequence[int]]
"""Output shape of each part by its name, as `Architecture.walk` returns them."""

_GAP = 30.0
_BOX_WIDTH, _BOX_HEIGHT = 148.0, 50.0
_BETWEEN_ROWS = 14.0
_BETWEEN_BOXES = 18.0
_MARGIN = 14.0
_ABOVE, _BELOW = 30.0, 28.0
"""Height of a column's title, and of the shape under it."""
_BEFORE_BRANCHES, _AFTER_BRANCHES = 26.0, 62.0
"""Width before parallel branches, and after them for the gate."""
_PADDING = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One step of a stream; rows of boxes read the same input."""

    title: str
    boxes: LabelRows
    under: str
    """Output shape."""
    depth: int = 1
    framed: bool = False

    @property
    def rows_width(self) -> float:
        """Width of the longest row."""
        return max(map(_row_width, self.boxes.rows))

    @property
    def width(self) -> float:
        sides = _BEFORE_BRANCHES + _AFTER_BRANCHES if len(self.boxes.rows) > 1 else 0.0
        return self.rows_width + sides + (2 * _PADDING if self.framed else 0.0)

    @property
    def height(self) -> float:
        count = len(self.boxes.rows)
        return count * _BOX_HEIGHT + (count - 1) * _BETWEEN_ROWS

    @property
    def half_height(self) -> float:
        """Distance from the middle to the edge of the frame."""
        return self.height / 2 + (_PADDING if self.framed else 0.0)


def diagram(
    architecture: Mapping[str, Any], shapes: Shapes | None = None, task: Task | None = None
) -> str:
    """Return the network as an SVG drawing.

    Args:
        architecture: Plain data, as `Architecture.to_dict` returns it.
        shapes: Output shapes of the parts; a part without one shows its width.
        task: Inputs and outputs of the network; None leaves out their sizes.

    Raises:
        KeyError: A part of the network is missing.
    """
    shapes = shapes or {}
    rows = [
        list(_columns(name, stream, shapes, task))
        for name, stream in architecture["streams"].items()
    ]
    tail = list(_tail(architecture, task, several=len(rows) > 1))
    heights = [2 * max(column.half_height for column in row) + _ABOVE + _BELOW for row in rows]
    longest = _MARGIN + max(map(_row_length, rows))
    start_x, middle = longest + _GAP, _MARGIN / 2 + sum(heights) / 2
    parts: list[str] = []
    top = _MARGIN / 2
    for row, row_height in zip(rows, heights, strict=True):
        level = top + _ABOVE + (row_height - _ABOVE - _BELOW) / 2
        middle = level if len(rows) == 1 else middle
        last_x, elements = _draw_row(row, _MARGIN, level)
        parts += [*elements, svg.path(f"M{last_x:g} {level:g}H{longest:g}")]
        parts.append(svg.arrow(longest, level, start_x, middle))
        top += row_height
    last_x, elements = _draw_row(tail, start_x, middle)
    return svg.document(last_x + _MARGIN, _MARGIN + sum(heights), "Architecture", parts + elements)


def _columns(name: str, stream: Fields, shapes: Shapes, task: Task | None) -> Iterator[_Column]:
    """Yield input, stem and stages of a stream."""
    size = format_shape(task.inputs.get(name) if task else None)
    given = Label(name=shorten(name), detail=size or "input", color=svg.GRAY)
    yield _Column(title="input", boxes=_one(given), under="")
    stem = stream["stem"]
    under = _output(shapes.get(f"streams.{name}.stem"), stem)
    yield _Column(title="stem", boxes=_one(block_label(stem)), under=under)
    for index, stage in enumerate(stream["stages"]):
        # A stage without blocks is the convolution that changes width and resolution.
        block = stage["block"] if stage["depth"] else {**stage, "kind": "convolution", "depth": 1}
        yield _Column(
            title=f"stage {index + 1}",
            boxes=block_rows(block),
            under=_output(shapes.get(f"streams.{name}.stages.{index}"), stage),
            depth=stage["depth"] or 1,
            framed=True,
        )


def _tail(architecture: Fields, task: Task | None, *, several: bool) -> Iterator[_Column]:
    fusion = fusion_label(architecture["fusion"], several=several)
    yield _Column(title="embedding", boxes=_one(fusion), under="")
    yield _Column(title="head", boxes=_one(head_label(architecture["head"], task)), under="")


def _one(label: Label) -> LabelRows:
    return LabelRows(rows=((label,),))


def _row_width(row: tuple[Label, ...]) -> float:
    return len(row) * _BOX_WIDTH + (len(row) - 1) * _BETWEEN_BOXES


def _output(shape: Sequence[int] | None, part: Fields) -> str:
    width = part.get("width")
    return format_shape(shape) or ("" if width is None else f"{width} wide")


def _row_length(columns: list[_Column]) -> float:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _draw_row(columns: list[_Column], x: float, level: float) -> tuple[float, list[str]]:
    """Return the right edge of the last column, and the columns from left to right."""
    parts: list[str] = []
    for index, column in enumerate(columns):
        if index:
            parts.append(svg.arrow(x, level, x + _GAP, level))
            x += _GAP
        parts += _draw_column(column, x, level)
        x += column.width
    return x, parts


def _draw_column(column: _Column, x: float, level: float) -> Iterator[str]:
    middle, top = x + column.width / 2, level - column.half_height
    repeats = f" ({column.depth}\N{MULTIPLICATION SIGN})" if column.depth != 1 else ""
    if column.framed:
        for behind in range(min(column.depth, 3) - 1, -1, -1):
            shift = 4.0 * behind
            yield svg.rectangle(
                x + shift, top - shift, column.width, 2 * column.half_height, svg.FRAME, corner=10
            )
        x += _PADDING
    yield svg.text(middle, top - 12, column.title + repeats, size=12, bold=bool(repeats))
    yield svg.text(middle, level + column.half_height + 17, column.under, fill=svg.PALE)
    if len(column.boxes.rows) > 1:
        yield from _draw_branches(column, x, level)
    else:
        yield from _draw_boxes(column.boxes.rows[0], x, level)


def _draw_branches(column: _Column, x: float, level: float) -> Iterator[str]:
    """Yield rows one above the other, fed from one point and mixed in the gate."""
    gate_x = x + _BEFORE_BRANCHES + column.rows_width + _AFTER_BRANCHES - 20
    step = _BOX_HEIGHT + _BETWEEN_ROWS
    rows, mix = column.boxes.rows, column.boxes.mix
    for index, row in enumerate(rows):
        row_y = level + (index - (len(rows) - 1) / 2) * step
        right = x + _BEFORE_BRANCHES + _row_width(row)
        yield svg.arrow(x - _PADDING, level, x + _BEFORE_BRANCHES, row_y)
        yield svg.path(f"M{right:g} {row_y:g}H{gate_x - _AFTER_BRANCHES + 20:g}")
        yield svg.arrow(gate_x - _AFTER_BRANCHES + 20, row_y, gate_x - 20, level)
        yield from _draw_boxes(row, x + _BEFORE_BRANCHES, row_y)
    yield svg.path(f"M{gate_x + 20:g} {level:g}h{_PADDING:g}")
    yield svg.rectangle(
        gate_x - 20, level - 20, 40, 40, svg.GREEN if mix == "gate" else svg.GRAY, corner=20
    )
    yield svg.text(gate_x, level + 4, mix, bold=True)


def _draw_boxes(row: tuple[Label, ...], x: float, level: float) -> Iterator[str]:
    for index, label in enumerate(row):
        if index:
            yield svg.arrow(x - _BETWEEN_BOXES, level, x, level)
        yield from _draw_box(label, x, level)
        x += _BOX_WIDTH + _BETWEEN_BOXES


def _draw_box(label: Label, x: float, level: float) -> Iterator[str]:
    middle = x + _BOX_WIDTH / 2
    yield svg.rectangle(x, level - _BOX_HEIGHT / 2, _BOX_WIDTH, _BOX_HEIGHT, label.color)
    yield svg.text(middle, level - 3, label.name, size=14, bold=True)
    yield svg.text(middle, level + 14, label.detail, size=11.5, fill=svg.PALE)
