"""`image_text`: an image and a text, with any fusion."""

from search_spaces.architecture import Architecture, Fusion, Stream
from search_spaces.blocks import (
    Concatenate,
    CrossAttentionFusion,
    Gated,
    Residual,
    Stage,
    TwoTower,
)
from search_spaces.catalog import parts, step_parts, text
from search_spaces.domains import Domain, IntRange, OneOf, Record, Repeat
from search_spaces.domains.priors import likely_first
from search_spaces.space import SearchSpace

DEFAULT_STAGES = (
    Stage(width=48, depth=1, reduction="pool", block=Residual()),
    Stage(width=96, depth=1, reduction="pool", block=Residual()),
)
"""Default stages of the image stream."""


def space() -> SearchSpace:
    """Return the space of networks for an image of at least 8 by 8 and a text."""
    words = Record(Stream, {"stem": text.stem(), "stages": step_parts.stages(1, 2)})
    return SearchSpace.of(
        name="image_text",
        version="1",
        architecture=with_image("text", words),
        recipe=step_parts.recipe(),
    )


def with_image(name: str, other: Domain[Stream]) -> Domain[Architecture]:
    """Return networks of an image and another stream, with any fusion."""
    return step_parts.predictor({"image": image(), name: other}, fusion("image", name))


def image() -> Domain[Stream]:
    """Return convolution, attention, and both with a gate."""
    stage = parts.stage(
        {**parts.convolutions(), "attention": parts.attention(), "gate": parts.gate()},
        width=IntRange(32, 128, step=16, prior=64),
        depth=IntRange(1, 2, prior=1),
        reduction=likely_first("pool", "stride", "none"),
    )
    stem = parts.convolution_stem(
        IntRange(16, 48, step=8, prior=24), likely_first("pool", "stride")
    )
    return Record(
        Stream, {"stem": stem, "stages": Repeat(stage, 1, 3, initial=DEFAULT_STAGES, prior=2)}
    )


def fusion(*streams: str) -> Domain[Fusion]:
    """Return all fusions by their label."""
    width = IntRange(32, 128, step=32, prior=64)
    pooling = likely_first("average", "maximum")
    return OneOf(
        {
            "concatenate": Record(Concatenate, {"pooling": pooling}),
            "gated": Record(
                Gated,
                {"width": width, "detail": likely_first("channel", "scalar"), "pooling": pooling},
            ),
            "cross_attention": Record(
                CrossAttentionFusion,
                {
                    "asking": likely_first(*streams),
                    "width": width,
                    "heads": likely_first(4, 2, 8),
                    "pooling": pooling,
                },
            ),
            "two_tower": Record(TwoTower, {"width": width, "pooling": pooling}),
        },
        prior="concatenate",
        confidence="low",
    )
