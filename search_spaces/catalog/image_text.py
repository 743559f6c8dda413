"""`image_text`: an image and a text, and how they meet: any fusion that the grammar knows."""

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
from search_spaces.domains import Domain, IntRange, OneOf, Record, Repeat, choice
from search_spaces.space import SearchSpace

DEFAULT_STAGES = (
    Stage(width=48, depth=1, reduction="pool", block=Residual()),
    Stage(width=96, depth=1, reduction="pool", block=Residual()),
)
"""What an image passes in what every study tries first."""


def space() -> SearchSpace:
    """The space of networks for pairs of an image of 8 by 8 and up and a text."""
    words = Record(Stream, {"stem": text.stem(), "stages": step_parts.stages(1, 2)})
    return SearchSpace.of(
        name="image_text",
        version="1",
        architecture=with_image("text", words),
        recipe=step_parts.recipe(),
    )


def with_image(name: str, other: Domain[Stream]) -> Domain[Architecture]:
    """Networks of an image and another stream, fused in any way."""
    return step_parts.answering({"image": image(), name: other}, fusion("image", name))


def image() -> Domain[Stream]:
    """Convolution, attention, and both under a gate."""
    stage = parts.stage(
        {**parts.convolutions(), "attention": parts.attention(), "gate": parts.gate()},
        width=IntRange(32, 128, step=16),
        depth=IntRange(1, 2),
        reduction=choice("pool", "stride", "none"),
    )
    stem = parts.convolution_stem(IntRange(16, 48, step=8, initial=24), choice("pool", "stride"))
    return Record(Stream, {"stem": stem, "stages": Repeat(stage, 1, 3, initial=DEFAULT_STAGES)})


def fusion(*streams: str) -> Domain[Fusion]:
    """Every way in which streams meet, by its label."""
    width = IntRange(32, 128, step=32, initial=64)
    pooling = choice("average", "maximum")
    return OneOf(
        {
            "concatenate": Record(Concatenate, {"pooling": pooling}),
            "gated": Record(
                Gated, {"width": width, "detail": choice("channel", "scalar"), "pooling": pooling}
            ),
            "cross_attention": Record(
                CrossAttentionFusion,
                {
                    "asking": choice(*streams),
                    "width": width,
                    "heads": choice(4, 2, 8),
                    "pooling": pooling,
                },
            ),
            "two_tower": Record(TwoTower, {"width": width, "pooling": pooling}),
        }
    )
