"""Domains that several built-in spaces share: blocks, stages, and the rest of the network.

Widths are multiples of 16 and heads powers of two up to 8, so that heads always divide the width:
every combination of these decisions is possible.
"""

from collections.abc import Mapping
from typing import Any

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Block,
    Classify,
    Concatenate,
    ConvNeXt,
    ConvolutionStem,
    Gate,
    MBConv,
    Residual,
    Stage,
)
from search_spaces.domains import (
    Const,
    Domain,
    FloatRange,
    Inline,
    IntRange,
    OneOf,
    Record,
    Repeat,
    Shared,
    choice,
)
from search_spaces.domains.priors import likely_first

NORMALISATION: Domain[str] = Shared(
    "architecture.normalisation", likely_first("batch", "group", "layer")
)
"""One decision for all convolutions of a network; attention has its own layer normalization."""


def residual() -> Domain[Residual]:
    """Return residual blocks."""
    return Record(Residual, {"kernel": likely_first(3, 5), "normalisation": NORMALISATION})


def mbconv() -> Domain[MBConv]:
    """Return MBConv blocks."""
    return Record(
        MBConv,
        {
            "kernel": likely_first(3, 5),
            "expansion": IntRange(2, 4, prior=3),
            "squeeze": likely_first(False, True),
            "normalisation": NORMALISATION,
        },
    )


def convnext() -> Domain[ConvNeXt]:
    """Return ConvNeXt blocks."""
    return Record(
        ConvNeXt,
        {
            "kernel": likely_first(5, 3, 7),
            "expansion": IntRange(2, 4, prior=3),
            "normalisation": NORMALISATION,
        },
    )


def attention(**more: Domain[Any]) -> Domain[Attention]:
    """Return Transformer layers; the fields in `more` are decided after the common ones."""
    return Record(
        Attention,
        {
            "heads": likely_first(4, 2, 8),
            "mlp_ratio": FloatRange(1.0, 4.0, step=0.5, prior=2.0),
            "drop_path": FloatRange(0.0, 0.2, step=0.05, prior=0.0),
            **more,
        },
    )


def convolutions() -> dict[str, Domain[Block]]:
    """Return all convolution blocks by their label."""
    return {"residual": residual(), "mbconv": mbconv(), "convnext": convnext()}


def gate() -> Domain[Gate]:
    """Return any convolution in parallel to attention, mixed by the learned gate."""
    return Record(
        Gate,
        {
            "convolution": OneOf({**convolutions()}, prior="residual", confidence="low"),
            "attention": attention(),
        },
    )


def stage(
    blocks: Mapping[str, Domain[Block]],
    *,
    width: Domain[int],
    depth: Domain[int],
    reduction: Domain[str],
) -> Domain[Stage]:
    """Return stages of one of these blocks.

    The block's label is the answer for the stage's own name: `stages.0` is `attention`, and
    `stages.0.attention.heads` is 4.
    """
    return Record(
        Stage,
        {
            "width": width,
            "depth": depth,
            "reduction": reduction,
            "normalisation": NORMALISATION,
            "block": Inline(OneOf({**blocks}, prior=next(iter(blocks)), confidence="low")),
        },
    )


def convolution_stem(width: Domain[int], reduction: Domain[str]) -> Domain[ConvolutionStem]:
    """Return stems of one convolution."""
    return Record(
        ConvolutionStem,
        {
            "width": width,
            "kernel": likely_first(5, 3),
            "reduction": reduction,
            "normalisation": NORMALISATION,
        },
    )


def classifier(
    stem: Domain[Block], stages: Repeat[Stage], *, initialisation: str = "he"
) -> Domain[Architecture]:
    """Return networks of one image stream with a classifier.

    Args:
        stem: Domain of the stem.
        stages: Domain of the stages.
        initialisation: Default weight initialization.
    """
    image: Domain[Stream] = Record(Stream, {"stem": stem, "stages": stages})
    return Record(
        Architecture,
        {
            "streams": Record(dict, {"image": image}),
            "fusion": Record(Concatenate, {"pooling": likely_first("average", "maximum")}),
            "head": Record(Classify, {"dropout": FloatRange(0.0, 0.3, step=0.1, prior=0.0)}),
            "initialisation": choice(
                "he", "truncated_normal", prior=initialisation, confidence="low"
            ),
        },
    )


def plain_classifier(stem: Domain[Block], stages: Repeat[Stage]) -> Domain[Architecture]:
    """Return networks of one image stream, where only the stream is decided."""
    image: Domain[Stream] = Record(Stream, {"stem": stem, "stages": stages})
    return Record(
        Architecture,
        {
            "streams": Record(dict, {"image": image}),
            "fusion": Const(Concatenate()),
            "head": Const(Classify()),
        },
    )
