"""`hybrid`: convolution and attention, in sequence and side by side under a learned gate."""

from search_spaces.blocks import Attention, Gate, Residual, Stage
from search_spaces.catalog import parts
from search_spaces.domains import IntRange, Repeat, choice
from search_spaces.space import SearchSpace

DEFAULT_STAGES = (
    Stage(width=48, depth=1, reduction="pool", block=Residual()),
    Stage(
        width=96,
        depth=1,
        reduction="pool",
        block=Gate(convolution=Residual(), attention=Attention(heads=4)),
    ),
)
"""What every study tries first: as fast as a plain CNN of three layers, attention on few tokens."""


def space() -> SearchSpace:
    """The space of hybrids for images of 8 by 8 and up."""
    stage = parts.stage(
        {**parts.convolutions(), "attention": parts.attention(), "gate": parts.gate()},
        width=IntRange(32, 128, step=16),
        depth=IntRange(1, 2),
        reduction=choice("pool", "stride", "none"),
    )
    stem = parts.convolution_stem(IntRange(16, 48, step=8, initial=24), choice("pool", "stride"))
    return SearchSpace.of(
        name="hybrid",
        version="1",
        architecture=parts.classifier(stem, Repeat(stage, 2, 4, initial=DEFAULT_STAGES)),
    )
