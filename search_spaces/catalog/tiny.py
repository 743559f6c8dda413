"""`tiny`: few decisions over networks of a few thousand weights, for fast tests."""

from search_spaces.blocks import Attention, Block, ConvolutionStem, Gate, Residual, Stage
from search_spaces.catalog import parts
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
from search_spaces.losses import loss_domain
from search_spaces.recipe import Recipe
from search_spaces.space import SearchSpace


def space() -> SearchSpace:
    """Return the space of tiny networks for images of at least 8 by 8."""
    small = Attention(heads=2, mlp_ratio=1.0)
    blocks: dict[str, Domain[Block]] = {
        "residual": Const(Residual()),
        "attention": Const(small),
        "gate": Const(Gate(convolution=Residual(), attention=small)),
    }
    stage = Record(
        Stage,
        {
            "width": IntRange(8, 24, step=8, prior=8),
            "depth": Const(1),
            "block": Inline(OneOf({**blocks}, prior="residual", confidence="low")),
        },
    )
    return SearchSpace.of(
        name="tiny",
        version="1",
        architecture=parts.plain_classifier(
            Const(ConvolutionStem(width=8)), Repeat(stage, 1, 2, prior=1)
        ),
        recipe=Record(
            Recipe,
            {
                "optimizer": Const("adamw"),
                "learning_rate": FloatRange(1e-3, 3e-2, log=True, prior=1e-2),
                "weight_decay": Const(1e-2),
            },
        ),
        losses=loss_domain(main=("cross_entropy",), side=("auxiliary",)),
    )
