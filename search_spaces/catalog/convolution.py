"""`convolution`: convolutional networks only, a baseline of the hybrids."""

from search_spaces.blocks import Residual, Stage
from search_spaces.catalog import parts
from search_spaces.domains import IntRange, Repeat
from search_spaces.domains.priors import likely_first
from search_spaces.space import SearchSpace

DEFAULT_STAGES = (
    Stage(width=64, depth=1, reduction="pool", block=Residual()),
    Stage(width=128, depth=1, reduction="pool", block=Residual()),
)
"""Default stages, which every study tries first."""


def space() -> SearchSpace:
    """Return the space of convolutional networks for images of at least 8 by 8."""
    stage = parts.stage(
        parts.convolutions(),
        width=IntRange(32, 128, step=16, prior=64),
        depth=IntRange(1, 3, prior=1),
        reduction=likely_first("pool", "stride", "none"),
    )
    stem = parts.convolution_stem(
        IntRange(16, 48, step=16, prior=32), likely_first("pool", "stride")
    )
    return SearchSpace.of(
        name="convolution",
        version="1",
        architecture=parts.classifier(stem, Repeat(stage, 2, 4, initial=DEFAULT_STAGES, prior=2)),
    )
