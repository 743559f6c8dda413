"""`vector`: plain numbers, such as a table's row or a physical state: dense, or token by token."""

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import Block, FeedForward, Stage, VectorStem
from search_spaces.catalog import parts, step_parts
from search_spaces.domains import (
    Const,
    Domain,
    FloatRange,
    Inline,
    IntRange,
    OneOf,
    Record,
    Repeat,
    choice,
)
from search_spaces.space import SearchSpace


def space() -> SearchSpace:
    """The space of networks for vectors (numbers,), to classify or to foretell."""
    return SearchSpace.of(
        name="vector", version="1", architecture=architecture(), recipe=step_parts.recipe()
    )


def architecture() -> Domain[Architecture]:
    """Networks of one stream of vectors."""
    # A number's own vectors say which one it is.
    attention = parts.attention(positions=Const("none"))
    branches = {
        "dense": _stream({"feed_forward": dense()}, tokens=False),
        "tokens": _stream({"attention": attention, "feed_forward": dense()}, tokens=True),
    }
    return step_parts.answering(
        {"vector": OneOf(branches)}, step_parts.pooled("average", "maximum")
    )


def dense() -> Domain[FeedForward]:
    """Dense residual blocks."""
    return Record(
        FeedForward,
        {
            "mlp_ratio": FloatRange(1.0, 4.0, step=0.5, initial=2.0),
            "activation": choice("gelu", "relu", "silu"),
            "normalisation": choice("layer", "none", "rms"),
            "dropout": FloatRange(0.0, 0.4, step=0.1),
        },
    )


def _stream(blocks: dict[str, Domain[Block]], *, tokens: bool) -> Domain[Stream]:
    width = IntRange(32, 192, step=16, initial=64)
    stage = Record(
        Stage,
        {
            "width": width,
            "depth": IntRange(1, 3),
            "reduction": Const("none"),
            "normalisation": Const("layer"),
            "block": Inline(OneOf(blocks)),
        },
    )
    stem = Record(VectorStem, {"width": width, "tokens": Const(tokens)})
    return Record(Stream, {"stem": stem, "stages": Repeat(stage, 1, 3)})
