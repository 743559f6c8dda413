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
)
from search_spaces.domains.priors import likely_first
from search_spaces.recipe import Recipe, recipe_domain

DEFAULT_STAGES = (
    Stage(width=64, depth=1, reduction="none", normalisation="layer", block=Recurrent()),
)
"""Default stages of sequences."""


def recurrent() -> Domain[Recurrent]:
    """Return recurrent layers."""
    return Record(
        Recurrent,
        {"cell": likely_first("lstm", "gru"), "dropout": FloatRange(0.0, 0.4, step=0.1, prior=0.0)},
    )


def temporal() -> Domain[TemporalConvolution]:
    """Return causal convolutions."""
    return Record(
        TemporalConvolution,
        {
            "kernel": likely_first(3, 5, 7),
            "dilation": likely_first(1, 2, 4, 8),
            "drop_path": FloatRange(0.0, 0.2, step=0.05, prior=0.0),
        },
    )


def attention() -> Domain[Attention]:
    """Return Transformer layers over steps."""
    positions = likely_first("learned", "relative", "rotary", "sinusoidal")
    return parts.attention(positions=positions)


def memory() -> Domain[SegmentMemory]:
    """Return Transformer layers with segment memory."""
    return Record(
        SegmentMemory,
        {
            "segment": likely_first(16, 8, 32),
            "heads": likely_first(4, 2, 8),
            "mlp_ratio": FloatRange(1.0, 4.0, step=0.5, prior=2.0),
            "positions": likely_first("learned", "sinusoidal"),
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
            "width": IntRange(32, 128, step=16, prior=64),
            "depth": IntRange(1, 2, prior=1),
            "reduction": likely_first("none", "stride"),
            "normalisation": Const("layer"),
            "block": Inline(OneOf({**blocks}, prior="recurrent", confidence="low")),
        },
    )
    return Repeat(stage, low, high, initial=initial, prior=1)


def predictor(
    streams: Mapping[str, Domain[Stream]], fusion: Domain[Fusion]
) -> Domain[Architecture]:
    """Return networks of these streams that predict classes, regression targets or both."""
    return Record(
        Architecture,
        {
            "streams": Record(dict, {**streams}),
            "fusion": fusion,
            "head": Record(MultiTaskHead, {"dropout": FloatRange(0.0, 0.3, step=0.1, prior=0.0)}),
            "initialisation": likely_first("xavier", "he", "truncated_normal"),
        },
    )


def pooled(*poolings: str) -> Domain[Any]:
    """Return one stream with any of these poolings."""
    return Record(Concatenate, {"pooling": likely_first(*poolings)})


def recipe() -> Domain[Recipe]:
    """Return training recipes without image augmentation."""
    return recipe_domain(augmentations=("none",), optimizers=("adamw", "sgd_nesterov"))
