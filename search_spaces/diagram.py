"""A network as a drawing: what follows what, what lies side by side, how wide and how fine.

Drawn from the plain data of a candidate, so it loads no torch and no code of the user's. Blue are
convolutions, orange is attention, green is the gate that mixes the two, grey is anything else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces import svg
from search_spaces.resolution import halved, patch_side
from search_spaces.task import Shape, Task

_GAP = 30.0
_PIECE_WIDTH, _PIECE_HEIGHT = 128.0, 50.0
_BETWEEN_BRANCHES = 14.0
_MARGIN = 14.0
_ABOVE, _BELOW = 30.0, 28.0
"""Room over a column for its title, and under it for its shape."""
_BRANCHING, _GATING = 26.0, 62.0
"""Room before side-by-side branches, and after them for the gate."""
_PADDING = 10.0
_MAX_LETTERS = 19

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """One box: what it is, and the decisions worth seeing."""

    name: str
    detail: str
    colour: svg.Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One step of a stream: pieces one over the other see the same input."""

    title: str
    pieces: tuple[_Piece, ...]
    under: str
    """What comes out of it."""
    depth: int = 1
    framed: bool = False

    @property
    def width(self) -> float:
        sides = _BRANCHING + _GATING if len(self.pieces) > 1 else 0.0
        return _PIECE_WIDTH + sides + (2 * _PADDING if self.framed else 0.0)

    @property
    def height(self) -> float:
        count = len(self.pieces)
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
    given = _Piece(name=_cut(name), detail=_size(shape) or "input", colour=svg.GREY)
    yield _Column(title="input", pieces=(given,), under="")
    stem = stream["stem"]
    shape = _stem_shape(stem, shape)
    yield _Column(title="stem", pieces=_pieces(stem), under=_out(shape, stem.get("width")))
    for number, stage in enumerate(stream["stages"], start=1):
        entered = _reduced(stage, shape)
        # Only blocks of ours are known to keep a map's shape.
        shape = entered if stage["block"]["kind"] in _WORDS or not stage["depth"] else None
        yield _Column(
            title=f"stage {number}",
            pieces=_pieces(stage["block"]),
            under=_out(shape, stage["width"]),
            depth=stage["depth"],
            framed=True,
        )


def _ends(architecture: Fields, task: Task | None, *, several: bool) -> Iterator[_Column]:
    fusion, head = architecture["fusion"], architecture["head"]
    pooling = fusion.get("pooling", "")
    joined = _Piece(
        name="join streams" if several else "pool",
        detail=pooling or fusion["kind"],
        colour=svg.GREY,
    )
    yield _Column(title="embedding", pieces=(joined,), under="")
    classes = "scores" if task is None else f"{task.num_classes} classes"
    dropout = head.get("dropout") or 0
    read = _Piece(
        name=classes, detail=f"dropout {dropout:.2g}" if dropout else "linear", colour=svg.GREY
    )
    yield _Column(title="head", pieces=(read,), under="")


def _pieces(block: Fields) -> tuple[_Piece, ...]:
    if block["kind"] == "gate":
        return _piece(block["convolution"]), _piece(block["attention"])
    return (_piece(block),)


def _piece(block: Fields) -> _Piece:
    words = _WORDS.get(block["kind"])
    if words is not None:
        return words(block)
    plain = [f"{name} {value}" for name, value in block.items() if isinstance(value, int | float)]
    return _Piece(name=_cut(block["kind"]), detail=_cut(", ".join(plain)), colour=svg.GREY)


def _convolution(name: str) -> Callable[[Fields], _Piece]:
    def piece(block: Fields) -> _Piece:
        side = block["kernel"]
        detail = f"{side}\N{MULTIPLICATION SIGN}{side}"
        if "expansion" in block:
            detail += f", inside \N{MULTIPLICATION SIGN}{block['expansion']}"
        if block.get("squeeze"):
            detail += ", squeeze"
        return _Piece(name=name, detail=detail, colour=svg.BLUE)

    return piece


def _attention(block: Fields) -> _Piece:
    detail = f"{block['heads']} heads, MLP \N{MULTIPLICATION SIGN}{block['mlp_ratio']:g}"
    return _Piece(name="attention", detail=detail, colour=svg.ORANGE)


def _patches(block: Fields) -> _Piece:
    return _Piece(name="patches", detail=f"side {block['patch']}", colour=svg.GREY)


def _gate(block: Fields) -> _Piece:
    return _Piece(name="gate", detail=f"{block['convolution']['kind']} ...", colour=svg.GREEN)


_WORDS: Mapping[str, Callable[[Fields], _Piece]] = {
    "convolution": _convolution("convolution"),
    "residual": _convolution("residual"),
    "mbconv": _convolution("MBConv"),
    "convnext": _convolution("ConvNeXt"),
    "attention": _attention,
    "patch": _patches,
    "gate": _gate,
}
"""How pieces of ours are shown; all of them keep a map's shape but for stems."""


def _stem_shape(stem: Fields, shape: Shape | None) -> Shape | None:
    if shape is None or len(shape) != 3:
        return None
    if stem["kind"] == "patch":
        side = patch_side(stem["patch"], shape[1], shape[2])
        return stem["width"], shape[1] // side, shape[2] // side
    return _reduced(stem, shape) if stem["kind"] == "convolution" else None


def _reduced(piece: Fields, shape: Shape | None) -> Shape | None:
    if shape is None:
        return None
    _, height, width = shape
    sides = (height, width) if piece["reduction"] == "none" else halved(height, width)
    return (piece["width"], *sides)


def _out(shape: Shape | None, width: int | None) -> str:
    return _size(shape) or ("" if width is None else f"{width} wide")


def _size(shape: Shape | None) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape or ()))


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
    draw = _branches if len(column.pieces) > 1 else _single
    yield from draw(column, x, level)


def _single(column: _Column, x: float, level: float) -> Iterator[str]:
    yield from _boxed(column.pieces[0], x, level)


def _branches(column: _Column, x: float, level: float) -> Iterator[str]:
    """Boxes one over the other, fed from one point and mixed in the gate."""
    gate_x = x + _BRANCHING + _PIECE_WIDTH + _GATING - 20
    step = _PIECE_HEIGHT + _BETWEEN_BRANCHES
    for index, piece in enumerate(column.pieces):
        own = level + (index - (len(column.pieces) - 1) / 2) * step
        yield svg.arrow(x - _PADDING, level, x + _BRANCHING, own)
        yield svg.arrow(x + _BRANCHING + _PIECE_WIDTH, own, gate_x - 20, level)
        yield from _boxed(piece, x + _BRANCHING, own)
    yield svg.path(f"M{gate_x + 20:g} {level:g}h{_PADDING:g}")
    yield svg.box(gate_x - 20, level - 20, 40, 40, svg.GREEN, corner=20)
    yield svg.words(gate_x, level + 4, "gate", bold=True)


def _boxed(piece: _Piece, x: float, level: float) -> Iterator[str]:
    middle = x + _PIECE_WIDTH / 2
    yield svg.box(x, level - _PIECE_HEIGHT / 2, _PIECE_WIDTH, _PIECE_HEIGHT, piece.colour)
    yield svg.words(middle, level - 3, piece.name, size=14, bold=True)
    yield svg.words(middle, level + 14, piece.detail, size=11.5, fill=svg.PALE)


def _cut(text: str) -> str:
    if len(text) <= _MAX_LETTERS:
        return text
    return text[: _MAX_LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
