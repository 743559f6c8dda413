"""Domains that the spaces of sequences and of several streams share.

As in `parts`, widths are multiples of 16 and heads powers of two: every combination is possible.
"""

from collections.abc import Mapping
from typing import Any

from search_spaces.architecture import Architecture, Fusion, Stream
from search_spaces.blocks import (
    Attention,
    Block,
    Concatenate,
    Gate,
    MultiTaskHead,
    Recurrent,
    SegmentMemory,
    Stage,
    TemporalConvolution,
)
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
    choice,
)
from search_spaces.recipe import Recipe, recipe_domain

DEFAULT_STAGES = (
    Stage(width=64, depth=1, reduction="none", normalisation="layer", block=Recurrent()),
)
"""Default stages of sequences."""


def recurrent() -> Domain[Recurrent]:
    """Return recurrent layers."""
    return Record(
        Recurrent, {"cell": choice("lstm", "gru"), "dropout": FloatRange(0.0, 0.4, step=0.1)}
    )


def temporal() -> Domain[TemporalConvolution]:
    """Return causal convolutions."""
    return Record(
        TemporalConvolution,
        {
            "kernel": choice(3, 5, 7),
            "dilation": choice(1, 2, 4, 8),
            "drop_path": FloatRange(0.0, 0.2, step=0.05),
        },
    )


def attention() -> Domain[Attention]:
    """Return Transformer layers over steps."""
    positions = choice("learned", "relative", "rotary", "sinusoidal")
    return parts.attention(positions=positions)


def memory() -> Domain[SegmentMemory]:
    """Return Transformer layers with segment memory."""
    return Record(
        SegmentMemory,
        {
            "segment": choice(16, 8, 32),
            "heads": choice(4, 2, 8),
            "mlp_ratio": FloatRange(1.0, 4.0, step=0.5, initial=2.0),
            "positions": choice("learned", "sinusoidal"),
        },
    )


def gate() -> Domain[Gate]:
    """Return causal convolutions in parallel to attention, mixed by the learned gate."""
    return Record(Gate, {"convolution": temporal(), "attention": attention()})


def stages(
    low: int, high: int, *, initial: tuple[Stage, ...] | None = DEFAULT_STAGES
) -> Repeat[Stage]:
    """Return stages of sequence blocks; downsampling shortens long sequences."""
    blocks: dict[str, Domain[Block]] = {
        "recurrent": recurrent(),
        "temporal": temporal(),
        "attention": attention(),
        "memory": memory(),
        "gate": gate(),
    }
    stage = Record(
        Stage,
        {
            "width": IntRange(32, 128, step=16, initial=64),
            "depth": IntRange(1, 2),
            "reduction": choice("none", "stride"),
            "normalisation": Const("layer"),
            "block": Inline(OneOf({**blocks})),
        },
    )
    return Repeat(stage, low, high, initial=initial)


def predictor(
    streams: Mapping[str, Domain[Stream]], fusion: Domain[Fusion]
) -> Domain[Architecture]:
    """Return networks of these streams that predict classes, regression targets or both."""
    return Record(
        Architecture,
        {
            "streams": Record(dict, {**streams}),
            "fusion": fusion,
            "head": Record(MultiTaskHead, {"dropout": FloatRange(0.0, 0.3, step=0.1)}),
            "initialisation": choice("xavier", "he", "truncated_normal"),
        },
    )


def pooled(*poolings: str) -> Domain[Any]:
    """Return one stream with any of these poolings."""
    return Record(Concatenate, {"pooling": choice(*poolings)})


def recipe() -> Domain[Recipe]:
    """Return training recipes without image augmentation."""
    return recipe_domain(augmentations=("none",), optimizers=("adamw", "sgd_nesterov"))
