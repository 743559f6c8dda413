"""A network as a drawing: what follows what, what lies side by side, how wide and how fine.

Drawn from the plain data of a candidate, so it loads no torch and no code of the user's. Blue are
convolutions, orange is attention, purple is recurrence, green is what mixes by learned weights,
grey is anything else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.figures import svg
from orchestrator.figures.architecture_labels import (
    Branches,
    Fields,
    Piece,
    branches,
    cut,
    fusion_piece,
    head_piece,
    piece,
    size,
    stage_shape,
    stem_shape,
)
from search_spaces.task import Shape, Task

_GAP = 30.0
_PIECE_WIDTH, _PIECE_HEIGHT = 148.0, 50.0
_BETWEEN_BRANCHES = 14.0
_MARGIN = 14.0
_ABOVE, _BELOW = 30.0, 28.0
"""Room over a column for its title, and under it for its shape."""
_BRANCHING, _GATING = 26.0, 62.0
"""Room before side-by-side branches, and after them for the gate."""
_PADDING = 10.0
_BETWEEN_PIECES = 18.0
"""Room between boxes of one block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One step of a stream: rows of boxes one over the other see the same input."""

    title: str
    boxes: Branches
    under: str
    """What comes out of it."""
    depth: int = 1
    framed: bool = False

    @property
    def within(self) -> float:
        """Width of the longest row."""
        return max(map(_row_width, self.boxes.rows))

    @property
    def width(self) -> float:
        sides = _BRANCHING + _GATING if len(self.boxes.rows) > 1 else 0.0
        return self.within + sides + (2 * _PADDING if self.framed else 0.0)

    @property
    def height(self) -> float:
        count = len(self.boxes.rows)
        return count * _PIECE_HEIGHT + (count - 1) * _BETWEEN_BRANCHES

    @property
    def reach(self) -> float:
        """From its middle to the edge of its frame."""
        return self.height / 2 + (_PADDING if self.framed else 0.0)


def diagram(architecture: Mapping[str, Any], task: Task | None = None) -> str:
    """The network as an SVG drawing.

    Args:
        architecture: What `Architecture.to_dict` wrote.
        task: What it reads; without it only widths are shown, no resolutions.

    Raises:
        KeyError: A part of the network is missing.
    """
    rows = [
        list(_columns(name, stream, None if task is None else task.inputs.get(name)))
        for name, stream in architecture["streams"].items()
    ]
    end = list(_ends(architecture, task, several=len(rows) > 1))
    heights = [2 * max(column.reach for column in row) + _ABOVE + _BELOW for row in rows]
    longest = _MARGIN + max(map(_length, rows))
    start_x, middle = longest + _GAP, _MARGIN / 2 + sum(heights) / 2
    parts: list[str] = []
    top = _MARGIN / 2
    for row, row_height in zip(rows, heights, strict=True):
        level = top + _ABOVE + (row_height - _ABOVE - _BELOW) / 2
        middle = level if len(rows) == 1 else middle
        last_x, drawn = _row(row, _MARGIN, level)
        parts += [*drawn, svg.path(f"M{last_x:g} {level:g}H{longest:g}")]
        parts.append(svg.arrow(longest, level, start_x, middle))
        top += row_height
    last_x, drawn = _row(end, start_x, middle)
    return svg.document(last_x + _MARGIN, _MARGIN + sum(heights), "Architecture", parts + drawn)


def _columns(name: str, stream: Fields, shape: Shape | None) -> Iterator[_Column]:
    """Input, stem and stages of a stream; `shape` is None from where it is not known."""
    given = Piece(name=cut(name), detail=size(shape) or "input", colour=svg.GREY)
    yield _Column(title="input", boxes=_one(given), under="")
    stem = stream["stem"]
    shape = stem_shape(stem, shape)
    yield _Column(title="stem", boxes=_one(piece(stem)), under=_out(shape, stem.get("width")))
    for number, stage in enumerate(stream["stages"], start=1):
        shape = stage_shape(stage, shape)
        # A stage without blocks is what changes width and resolution.
        block = stage["block"] if stage["depth"] else {**stage, "kind": "convolution", "depth": 1}
        yield _Column(
            title=f"stage {number}",
            boxes=branches(block),
            under=_out(shape, stage["width"]),
            depth=stage["depth"] or 1,
            framed=True,
        )


def _ends(architecture: Fields, task: Task | None, *, several: bool) -> Iterator[_Column]:
    joined = fusion_piece(architecture["fusion"], several=several)
    yield _Column(title="embedding", boxes=_one(joined), under="")
    yield _Column(title="head", boxes=_one(head_piece(architecture["head"], task)), under="")


def _one(box: Piece) -> Branches:
    return Branches(rows=((box,),))


def _row_width(row: tuple[Piece, ...]) -> float:
    return len(row) * _PIECE_WIDTH + (len(row) - 1) * _BETWEEN_PIECES


def _out(shape: Shape | None, width: int | None) -> str:
    return size(shape) or ("" if width is None else f"{width} wide")


def _length(columns: list[_Column]) -> float:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _row(columns: list[_Column], x: float, level: float) -> tuple[float, list[str]]:
    """Columns from left to right, and where the last one ends."""
    parts: list[str] = []
    for index, column in enumerate(columns):
        if index:
            parts.append(svg.arrow(x, level, x + _GAP, level))
            x += _GAP
        parts += _column(column, x, level)
        x += column.width
    return x, parts


def _column(column: _Column, x: float, level: float) -> Iterator[str]:
    middle, top = x + column.width / 2, level - column.reach
    often = f" ({column.depth}\N{MULTIPLICATION SIGN})" if column.depth != 1 else ""
    if column.framed:
        for behind in range(min(column.depth, 3) - 1, -1, -1):
            shift = 4.0 * behind
            yield svg.box(
                x + shift, top - shift, column.width, 2 * column.reach, svg.FRAME, corner=10
            )
        x += _PADDING
    yield svg.words(middle, top - 12, column.title + often, size=12, bold=bool(often))
    yield svg.words(middle, level + column.reach + 17, column.under, fill=svg.PALE)
    draw = _branches if len(column.boxes.rows) > 1 else _single
    yield from draw(column, x, level)


def _single(column: _Column, x: float, level: float) -> Iterator[str]:
    yield from _boxes(column.boxes.rows[0], x, level)


def _branches(column: _Column, x: float, level: float) -> Iterator[str]:
    """Boxes one over the other, fed from one point and mixed in the gate."""
    gate_x = x + _BRANCHING + column.within + _GATING - 20
    step = _PIECE_HEIGHT + _BETWEEN_BRANCHES
    rows, mix = column.boxes.rows, column.boxes.mix
    for index, row in enumerate(rows):
        own = level + (index - (len(rows) - 1) / 2) * step
        end = x + _BRANCHING + _row_width(row)
        yield svg.arrow(x - _PADDING, level, x + _BRANCHING, own)
        yield svg.path(f"M{end:g} {own:g}H{gate_x - _GATING + 20:g}")
        yield svg.arrow(gate_x - _GATING + 20, own, gate_x - 20, level)
        yield from _boxes(row, x + _BRANCHING, own)
    yield svg.path(f"M{gate_x + 20:g} {level:g}h{_PADDING:g}")
    yield svg.box(
        gate_x - 20, level - 20, 40, 40, svg.GREEN if mix == "gate" else svg.GREY, corner=20
    )
    yield svg.words(gate_x, level + 4, mix, bold=True)


def _boxes(row: tuple[Piece, ...], x: float, level: float) -> Iterator[str]:
    """Boxes from left to right."""
    for index, box in enumerate(row):
        if index:
            yield svg.arrow(x - _BETWEEN_PIECES, level, x, level)
        yield from _boxed(box, x, level)
        x += _PIECE_WIDTH + _BETWEEN_PIECES


def _boxed(box: Piece, x: float, level: float) -> Iterator[str]:
    middle = x + _PIECE_WIDTH / 2
    yield svg.box(x, level - _PIECE_HEIGHT / 2, _PIECE_WIDTH, _PIECE_HEIGHT, box.colour)
    yield svg.words(middle, level - 3, box.name, size=14, bold=True)
    yield svg.words(middle, level + 14, box.detail, size=11.5, fill=svg.PALE)
