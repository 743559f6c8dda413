"""`transformer`: patches and attention only, a baseline of the hybrids."""

from search_spaces.blocks import Attention, PatchStem, Stage
from search_spaces.catalog import parts
from search_spaces.domains import Const, Inline, IntRange, OneOf, Record, Repeat
from search_spaces.domains.priors import likely_first
from search_spaces.recipe import recipe_domain
from search_spaces.space import SearchSpace

DEFAULT_STAGES = (
    Stage(width=96, depth=3, reduction="none", normalisation="layer", block=Attention(heads=4)),
)
"""Default stages, which every study tries first."""


def space() -> SearchSpace:
    """Return the space of Transformers for images of at least 8 by 8."""
    width = IntRange(32, 128, step=16, prior=96)
    stem = Record(PatchStem, {"width": width, "patch": likely_first(4, 2, 7)})
    stage = Record(
        Stage,
        {
            "width": width,
            "depth": IntRange(1, 4, prior=3),
            "reduction": likely_first("none", "stride"),
            "normalisation": Const("layer"),
            "block": Inline(OneOf({"attention": parts.attention()})),
        },
    )
    return SearchSpace.of(
        name="transformer",
        version="1",
        recipe=recipe_domain(optimizers=("adamw", "sgd_nesterov")),
        architecture=parts.classifier(
            stem,
            Repeat(stage, 1, 3, initial=DEFAULT_STAGES, prior=1),
            initialisation="truncated_normal",
        ),
    )
