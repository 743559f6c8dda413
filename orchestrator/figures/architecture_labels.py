"""Labels and colors of a network's parts in its drawing.

Reads the plain data of a candidate: loads neither torch nor user code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.figures import svg
from search_spaces.task import Task

_MAX_LETTERS = 19
_TIMES = "\N{MULTIPLICATION SIGN}"

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Text and color of one part: its name and its main decisions."""

    name: str
    detail: str
    color: svg.Color


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRows:
    """Labels of a block, row by row; several rows are parallel branches of the same input."""

    rows: tuple[tuple[Label, ...], ...]
    mix: str = ""
    """Merge of parallel branches."""


def block_rows(block: Fields) -> LabelRows:
    """Return the labels of a block and of the blocks within."""
    if block["kind"] == "gate":
        rows = _row(block["convolution"]), _row(block["attention"])
        return LabelRows(rows=rows, mix="gate")
    if block["kind"] == "parallel":
        rows = _row(block["first"]), _row(block["second"])
        return LabelRows(rows=rows, mix=_MIXES[block["mix"]])
    return LabelRows(rows=(_row(block),))


def _row(block: Fields) -> tuple[Label, ...]:
    if block["kind"] == "chain":
        return tuple(label for inner in block["blocks"] for label in _row(inner))
    return (block_label(block),)


def block_label(block: Fields) -> Label:
    """Return the label of one block or stem; a user's own shows its kind and its numbers."""
    if make := _LABELS.get(block["kind"]):
        return make(block)
    numbers = [f"{name} {value}" for name, value in block.items() if isinstance(value, int | float)]
    detail = shorten(", ".join(numbers))
    return Label(name=shorten(block["kind"]), detail=detail, color=svg.GRAY)


def fusion_label(fusion: Fields, *, several: bool) -> Label:
    """Return the label of the fusion of `several` streams, or of one stream's pooling."""
    kind, width = fusion["kind"], fusion.get("width")
    pooling = fusion.get("pooling", "")
    if kind == "gated":
        return Label(name="gated mix", detail=f"{width} wide", color=svg.GREEN)
    if kind == "cross_attention":
        detail = shorten(f"{fusion['asking']} queries")
        return Label(name="cross-attention", detail=detail, color=svg.ORANGE)
    if kind == "two_tower":
        return Label(name="two towers", detail=f"{width} wide, L2 norm", color=svg.GRAY)
    name = "concatenation" if several else "pooling"
    return Label(name=name, detail=pooling or shorten(kind), color=svg.GRAY)


def head_label(head: Fields, task: Task | None) -> Label:
    """Return the label of the head: its outputs and its hidden layer."""
    if head["kind"] == "embed":
        return Label(name="projection", detail=f"{head['width']} wide, L2 norm", color=svg.GRAY)
    name, *rest = _outputs(task)
    parts = [f"and {more}" for more in rest]
    parts += [f"hidden {head['hidden']}"] if head.get("hidden") else []
    parts += [f"dropout {head['dropout']:.2g}"] if head.get("dropout") else []
    return Label(name=name, detail=shorten(", ".join(parts) or "linear"), color=svg.GRAY)


def _outputs(task: Task | None) -> list[str]:
    if task is None:
        return ["outputs"]
    counts = ((task.num_classes, "class", "classes"), (task.num_values, "target", "targets"))
    return [f"{n} {one if n == 1 else many}" for n, one, many in counts if n]


def format_shape(shape: Sequence[int] | None) -> str:
    """Return a shape such as `32 x 14 x 14`; empty for None."""
    return f" {_TIMES} ".join(map(str, shape or ()))


def shorten(text: str) -> str:
    """Return the text, truncated to the width of its frame."""
    if len(text) <= _MAX_LETTERS:
        return text
    return text[: _MAX_LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _convolution(name: str) -> Callable[[Fields], Label]:
    def label(block: Fields) -> Label:
        side = block["kernel"]
        detail = f"{side}{_TIMES}{side}"
        if "expansion" in block:
            detail += f", expansion {block['expansion']}"
        if block.get("squeeze"):
            detail += ", SE"
        if block.get("depth", 1) != 1:
            detail += f", {_TIMES}{block['depth']}"
        return Label(name=name, detail=detail, color=svg.BLUE)

    return label


def _attention(block: Fields) -> Label:
    scope, form = block.get("scope", "all"), block.get("form", "softmax")
    name = _FORMS.get(form, _SCOPES.get(scope, "attention"))
    ratio = block["mlp_ratio"]
    detail = f"{block['heads']} heads" + (f", MLP {_TIMES}{ratio:g}" if ratio else "")
    return Label(name=name, detail=detail, color=svg.ORANGE)


def _segment_memory(block: Fields) -> Label:
    detail = f"{block['heads']} heads, segment {block['segment']}"
    return Label(name="segment memory", detail=detail, color=svg.ORANGE)


def _recurrent(block: Fields) -> Label:
    dropout = block["dropout"]
    detail = f"dropout {dropout:.2g}" if dropout else "recurrent"
    return Label(name=block["cell"].upper(), detail=detail, color=svg.PURPLE)


def _temporal(block: Fields) -> Label:
    detail = f"kernel {block['kernel']}"
    detail += f", dilation {block['dilation']}" if block["dilation"] != 1 else ""
    return Label(name="causal conv.", detail=detail, color=svg.BLUE)


def _feed_forward(block: Fields) -> Label:
    detail = f"ratio {block['mlp_ratio']:g}"
    detail += f", scale {block['share']:g}" if block["share"] != 1 else ""
    return Label(name="MLP", detail=detail, color=svg.GRAY)


def _conformer_convolution(block: Fields) -> Label:
    return Label(name="GLU conv.", detail=f"kernel {block['kernel']}", color=svg.BLUE)


def _nested(name: str, first: str, second: str) -> Callable[[Fields], Label]:
    """Return the label of two branches within a row, in one label."""

    def label(block: Fields) -> Label:
        kinds = f"{block[first]['kind']}, {block[second]['kind']}"
        return Label(name=name, detail=shorten(kinds), color=svg.GREEN)

    return label


def _stem(name: str, detail: Callable[[Fields], str]) -> Callable[[Fields], Label]:
    return lambda stem: Label(name=name, detail=shorten(detail(stem)), color=svg.GRAY)


_FORMS = {"linear": "linear attention", "convolution": "conv. attention"}
_SCOPES = {"window": "windows", "shifted": "shifted windows", "grid": "grid"}
_MIXES: Mapping[str, str] = {"sum": "+", "concatenate": "concat", "cross_attention": "attend"}
_LABELS: Mapping[str, Callable[[Fields], Label]] = {
    "convolution": _convolution("convolution"),
    "residual": _convolution("residual"),
    "mbconv": _convolution("MBConv"),
    "convnext": _convolution("ConvNeXt"),
    "attention": _attention,
    "segment_memory": _segment_memory,
    "recurrent": _recurrent,
    "temporal": _temporal,
    "feed_forward": _feed_forward,
    "conformer_convolution": _conformer_convolution,
    "gate": _nested("gate", "convolution", "attention"),
    "parallel": _nested("parallel", "first", "second"),
    "patch": _stem("patches", lambda stem: f"side {stem['patch']}"),
    "series": _stem("linear", lambda _: "per step"),
    "tokens": _stem("embedding", lambda stem: f"{stem['vocabulary']} tokens"),
    "vector": _stem("linear", lambda stem: "per feature" if stem["tokens"] else "all features"),
    "raw": _stem("identity", lambda _: ""),
    "spectrogram": _stem("spectrogram", lambda _: "2 convolutions"),
}
"""Labels of our own blocks and stems by kind."""
