"""`hybrid`: convolution and attention, in sequence and in parallel with a learned gate."""

from search_spaces.blocks import Attention, Gate, Residual, Stage
from search_spaces.catalog import parts
from search_spaces.domains import IntRange, Repeat
from search_spaces.domains.priors import likely_first
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
"""Default stages, which every study tries first: as fast as a CNN of three layers, attention on few
tokens."""


def space() -> SearchSpace:
    """Return the space of hybrids for images of at least 8 by 8."""
    stage = parts.stage(
        {**parts.convolutions(), "attention": parts.attention(), "gate": parts.gate()},
        width=IntRange(32, 128, step=16, prior=64),
        depth=IntRange(1, 2, prior=1),
        reduction=likely_first("pool", "stride", "none"),
    )
    stem = parts.convolution_stem(
        IntRange(16, 48, step=8, prior=24), likely_first("pool", "stride")
    )
    return SearchSpace.of(
        name="hybrid",
        version="1",
        architecture=parts.classifier(stem, Repeat(stage, 2, 4, initial=DEFAULT_STAGES, prior=2)),
    )
