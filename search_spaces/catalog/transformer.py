"""`transformer`: patches and attention only, a baseline of the hybrids."""

from search_spaces.blocks import Attention, PatchStem, Stage
from search_spaces.catalog import parts
from search_spaces.domains import Const, Inline, IntRange, OneOf, Record, Repeat, choice
from search_spaces.recipe import recipe_domain
from search_spaces.space import SearchSpace

DEFAULT_STAGES = (
    Stage(width=96, depth=3, reduction="none", normalisation="layer", block=Attention(heads=4)),
)
"""Default stages, which every study tries first."""


def space() -> SearchSpace:
    """Return the space of Transformers for images of at least 8 by 8."""
    width = IntRange(32, 128, step=16, initial=96)
    stem = Record(PatchStem, {"width": width, "patch": choice(4, 2, 7)})
    stage = Record(
        Stage,
        {
            "width": width,
            "depth": IntRange(1, 4),
            "reduction": choice("none", "stride"),
            "normalisation": Const("layer"),
            "block": Inline(OneOf({"attention": parts.attention()})),
        },
    )
    return SearchSpace.of(
        name="transformer",
        version="1",
        recipe=recipe_domain(optimizers=("adamw", "sgd_nesterov")),
        architecture=parts.classifier(
            stem, Repeat(stage, 1, 3, initial=DEFAULT_STAGES), initialisation="truncated_normal"
        ),
    )
