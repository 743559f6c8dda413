"""What a drawing says of a network's pieces: words, colours, and what comes out of them.

Reads the plain data of a candidate, so it loads no torch and no code of the user's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.figures import svg
from search_spaces.resolution import halved, patch_side
from search_spaces.task import Shape, Task

_MAX_LETTERS = 19
_TIMES = "\N{MULTIPLICATION SIGN}"

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One box: what it is, and the decisions worth seeing."""

    name: str
    detail: str
    colour: svg.Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """Pieces in order, or several such rows that see the same input."""

    rows: tuple[tuple[Piece, ...], ...]
    mix: str = ""
    """Where there are several rows: how they become one."""


def branches(block: Fields) -> Branches:
    """The pieces that a block is made of."""
    if block["kind"] == "gate":
        rows = _row(block["convolution"]), _row(block["attention"])
        return Branches(rows=rows, mix="gate")
    if block["kind"] == "parallel":
        rows = _row(block["first"]), _row(block["second"])
        return Branches(rows=rows, mix=_MIXES[block["mix"]])
    return Branches(rows=(_row(block),))


def _row(block: Fields) -> tuple[Piece, ...]:
    if block["kind"] == "chain":
        return tuple(piece for one in block["blocks"] for piece in _row(one))
    return (piece(block),)


def piece(block: Fields) -> Piece:
    """The box of one block or stem; a kind of the user's is named, with its numbers."""
    words = _WORDS.get(block["kind"])
    if words is not None:
        return words(block)
    plain = [f"{name} {value}" for name, value in block.items() if isinstance(value, int | float)]
    return Piece(name=cut(block["kind"]), detail=cut(", ".join(plain)), colour=svg.GREY)


def fusion_piece(fusion: Fields, *, several: bool) -> Piece:
    """The box of what makes one embedding of the streams."""
    kind, width = fusion["kind"], fusion.get("width")
    pooling = fusion.get("pooling", "")
    if kind == "gated":
        return Piece(name="gated mix", detail=f"{width} wide", colour=svg.GREEN)
    if kind == "cross_attention":
        detail = cut(f"{fusion['asking']} asks")
        return Piece(name="cross-attention", detail=detail, colour=svg.ORANGE)
    if kind == "two_tower":
        return Piece(name="towers", detail=f"{width} wide, length 1", colour=svg.GREY)
    name = "join streams" if several else "pool"
    return Piece(name=name, detail=pooling or cut(kind), colour=svg.GREY)


def head_piece(head: Fields, task: Task | None) -> Piece:
    """The box of what is read off the embedding."""
    if head["kind"] == "embed":
        return Piece(name="embed", detail=f"{head['width']} wide, length 1", colour=svg.GREY)
    name, *rest = _answers(task)
    parts = [f"and {more}" for more in rest]
    parts += [f"hidden {head['hidden']}"] if head.get("hidden") else []
    parts += [f"dropout {head['dropout']:.2g}"] if head.get("dropout") else []
    return Piece(name=name, detail=cut(", ".join(parts) or "linear"), colour=svg.GREY)


def _answers(task: Task | None) -> list[str]:
    if task is None:
        return ["scores"]
    counts = ((task.num_classes, "class", "classes"), (task.num_values, "number", "numbers"))
    return [f"{n} {one if n == 1 else many}" for n, one, many in counts if n]


def stem_shape(stem: Fields, shape: Shape | None) -> Shape | None:
    """What comes out of a stem; None where that is not known."""
    if shape is None or stem["kind"] not in _STEMS:
        return None
    return _STEMS[stem["kind"]](stem, shape)


def stage_shape(stage: Fields, shape: Shape | None) -> Shape | None:
    """What comes out of a stage; None where that is not known."""
    entered = _reduced(stage, shape)
    # Only blocks of ours are known to keep a map's shape.
    return entered if not stage["depth"] or _keeps(stage["block"]) else None


def _keeps(block: Fields) -> bool:
    within = list(_within(block))
    return all(map(_keeps, within)) if within else block["kind"] in _WORDS


def _within(block: Fields) -> Iterator[Fields]:
    yield from block.get("blocks", ())
    for name in ("convolution", "attention", "first", "second"):
        if name in block:
            yield block[name]


def _reduced(piece: Fields, shape: Shape | None) -> Shape | None:
    if shape is None or len(shape) < 2:
        return None
    reduction = piece["reduction"]
    if len(shape) == 2:
        kept = reduction in ("none", "block")
        return (shape[0] if kept else halved(shape[0], shape[0])[0], piece["width"])
    _, height, width = shape
    sides = (height, width) if reduction == "none" else halved(height, width)
    return (piece["width"], *sides)


def _patch_shape(stem: Fields, shape: Shape) -> Shape:
    side = patch_side(stem["patch"], shape[1], shape[2])
    return stem["width"], shape[1] // side, shape[2] // side


_STEMS: Mapping[str, Callable[[Fields, Shape], Shape | None]] = {
    "convolution": _reduced,
    "patch": _patch_shape,
    "series": lambda stem, shape: (shape[0], stem["width"]),
    "tokens": lambda stem, shape: (shape[0], stem["width"]),
    "vector": lambda stem, shape: (shape[0] if stem["tokens"] else 1, stem["width"]),
    "raw": lambda _, shape: (1, *shape) if len(shape) == 1 else shape,
    "spectrogram": lambda stem, shape: (
        halved(*halved(shape[1], shape[2]))[1],
        stem["width"],
    ),
}


def size(shape: Shape | None) -> str:
    """A shape in words; empty where it is not known."""
    return f" {_TIMES} ".join(map(str, shape or ()))


def cut(text: str) -> str:
    """A text that fits in a box."""
    if len(text) <= _MAX_LETTERS:
        return text
    return text[: _MAX_LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _convolution(name: str) -> Callable[[Fields], Piece]:
    def words(block: Fields) -> Piece:
        side = block["kernel"]
        detail = f"{side}{_TIMES}{side}"
        if "expansion" in block:
            detail += f", inside {_TIMES}{block['expansion']}"
        if block.get("squeeze"):
            detail += ", squeeze"
        if block.get("depth", 1) != 1:
            detail += f", {block['depth']} of them"
        return Piece(name=name, detail=detail, colour=svg.BLUE)

    return words


def _attention(block: Fields) -> Piece:
    scope, form = block.get("scope", "all"), block.get("form", "softmax")
    name = _FORMS.get(form, _SCOPES.get(scope, "attention"))
    ratio = block["mlp_ratio"]
    detail = f"{block['heads']} heads" + (f", MLP {_TIMES}{ratio:g}" if ratio else "")
    return Piece(name=name, detail=detail, colour=svg.ORANGE)


def _memory(block: Fields) -> Piece:
    detail = f"{block['heads']} heads, by {block['segment']}"
    return Piece(name="segment memory", detail=detail, colour=svg.ORANGE)


def _recurrent(block: Fields) -> Piece:
    dropout = block["dropout"]
    detail = f"dropout {dropout:.2g}" if dropout else "recurrent"
    return Piece(name=block["cell"].upper(), detail=detail, colour=svg.PURPLE)


def _temporal(block: Fields) -> Piece:
    detail = f"{block['kernel']} steps"
    detail += f", {block['dilation']} apart" if block["dilation"] != 1 else ""
    return Piece(name="causal conv.", detail=detail, colour=svg.BLUE)


def _feed_forward(block: Fields) -> Piece:
    detail = f"inside {_TIMES}{block['mlp_ratio']:g}"
    detail += f", {block['share']:g} of it" if block["share"] != 1 else ""
    return Piece(name="dense", detail=detail, colour=svg.GREY)


def _conformer_convolution(block: Fields) -> Piece:
    return Piece(name="GLU conv.", detail=f"{block['kernel']} steps", colour=svg.BLUE)


def _mixed(name: str, one: str, other: str) -> Callable[[Fields], Piece]:
    """A block of two branches where there is room for one box only."""

    def words(block: Fields) -> Piece:
        kinds = f"{block[one]['kind']}, {block[other]['kind']}"
        return Piece(name=name, detail=cut(kinds), colour=svg.GREEN)

    return words


def _plain(name: str, detail: Callable[[Fields], str]) -> Callable[[Fields], Piece]:
    return lambda stem: Piece(name=name, detail=cut(detail(stem)), colour=svg.GREY)


_FORMS = {"linear": "linear attention", "convolution": "conv. attention"}
_SCOPES = {"window": "windows", "shifted": "shifted windows", "grid": "grid"}
_MIXES: Mapping[str, str] = {"sum": "+", "concatenate": "join", "cross_attention": "ask"}
_WORDS: Mapping[str, Callable[[Fields], Piece]] = {
    "convolution": _convolution("convolution"),
    "residual": _convolution("residual"),
    "mbconv": _convolution("MBConv"),
    "convnext": _convolution("ConvNeXt"),
    "attention": _attention,
    "segment_memory": _memory,
    "recurrent": _recurrent,
    "temporal": _temporal,
    "feed_forward": _feed_forward,
    "conformer_convolution": _conformer_convolution,
    "gate": _mixed("gate", "convolution", "attention"),
    "parallel": _mixed("side by side", "first", "second"),
    "patch": _plain("patches", lambda stem: f"side {stem['patch']}"),
    "series": _plain("linear", lambda _: "each step"),
    "tokens": _plain("embedding", lambda stem: f"{stem['vocabulary']} tokens"),
    "vector": _plain("linear", lambda stem: "each number" if stem["tokens"] else "all numbers"),
    "raw": _plain("as it is", lambda _: ""),
    "spectrogram": _plain("columns", lambda _: "2 convolutions"),
}
"""How pieces of ours are shown; all of them keep a map's shape but for stems."""
