"""`vector`: vectors, such as a row of a table or a physical state: dense, or a token per number."""

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
)
from search_spaces.domains.priors import likely_first
from search_spaces.space import SearchSpace


def space() -> SearchSpace:
    """Return the space of networks for vectors (numbers,), for either kind of task."""
    return SearchSpace.of(
        name="vector", version="1", architecture=architecture(), recipe=step_parts.recipe()
    )


def architecture() -> Domain[Architecture]:
    """Return networks of one stream of vectors."""
    # The learned vectors of a number replace positions.
    attention = parts.attention(positions=Const("none"))
    branches = {
        "dense": _stream({"feed_forward": dense()}, tokens=False),
        "tokens": _stream({"attention": attention, "feed_forward": dense()}, tokens=True),
    }
    return step_parts.predictor(
        {"vector": OneOf(branches, prior="dense", confidence="low")},
        step_parts.pooled("average", "maximum"),
    )


def dense() -> Domain[FeedForward]:
    """Return dense residual blocks."""
    return Record(
        FeedForward,
        {
            "mlp_ratio": FloatRange(1.0, 4.0, step=0.5, prior=2.0),
            "activation": likely_first("gelu", "relu", "silu"),
            "normalisation": likely_first("layer", "none", "rms"),
            "dropout": FloatRange(0.0, 0.4, step=0.1, prior=0.0),
        },
    )


def _stream(blocks: dict[str, Domain[Block]], *, tokens: bool) -> Domain[Stream]:
    width = IntRange(32, 192, step=16, prior=64)
    stage = Record(
        Stage,
        {
            "width": width,
            "depth": IntRange(1, 3, prior=1),
            "reduction": Const("none"),
            "normalisation": Const("layer"),
            "block": Inline(OneOf(blocks, prior=next(iter(blocks)), confidence="low")),
        },
    )
    stem = Record(VectorStem, {"width": width, "tokens": Const(tokens)})
    return Record(Stream, {"stem": stem, "stages": Repeat(stage, 1, 3, prior=1)})
