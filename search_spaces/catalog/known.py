"""Networks from the literature, as architectures of this grammar, by name.

What the grammar cannot say exactly is left out. Vision Transformers and CvT are read at the average
of their tokens, as timm's `gap` variants are, rather than at a class token of some hundred weights;
patches merge by a convolution with bias, which Swin's have not.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Block,
    Chain,
    Classify,
    Concatenate,
    ConvNeXt,
    ConvolutionStem,
    PatchStem,
    Recurrent,
    Residual,
    Stage,
    TokenStem,
)
from search_spaces.plugins import UnknownNameError, did_you_mean

NORMALISED = Concatenate(normalisation="layer")


def vit(width: int, heads: int) -> Architecture:
    """A Vision Transformer of 12 layers over patches of 16 by 16 (Dosovitskiy et al. 2021)."""
    layer = Attention(heads=heads, mlp_ratio=4.0, positions="none")
    stem = PatchStem(width=width, patch=16, normalisation="none", positions=True)
    stage = Stage(width=width, depth=12, reduction="none", normalisation="layer", block=layer)
    return _image(stem, [stage], fusion=NORMALISED, initialisation="truncated_normal")


def convnext(widths: Sequence[int], depths: Sequence[int]) -> Architecture:
    """A ConvNeXt (Liu et al. 2022)."""
    block = ConvNeXt(layer_scale=1e-6)
    stages = _merging(widths, depths, [block] * len(widths))
    stem = PatchStem(width=widths[0], patch=4)
    return _image(stem, stages, fusion=NORMALISED, initialisation="truncated_normal")


def swin(width: int, depths: Sequence[int], heads: int) -> Architecture:
    """A Swin Transformer (Liu et al. 2021): pairs of layers in windows and shifted windows."""
    widths = [width * 2**index for index in range(len(depths))]
    blocks = []
    for index in range(len(depths)):
        layer = Attention(
            heads=heads * 2**index, mlp_ratio=4.0, positions="relative", scope="window", window=7
        )
        blocks.append(Chain(blocks=(layer, replace(layer, scope="shifted"))))
    stages = _merging(widths, [depth // 2 for depth in depths], blocks)
    stem = PatchStem(width=width, patch=4)
    return _image(stem, stages, fusion=NORMALISED, initialisation="truncated_normal")


def cvt(depths: Sequence[int]) -> Architecture:
    """A CvT (Wu et al. 2021): convolutional tokens and projections, no positions."""
    stages = []
    for width, heads, depth in zip((64, 192, 384), (1, 3, 6), depths, strict=True):
        layer = Attention(
            heads=heads, mlp_ratio=4.0, positions="none", form="convolution", stride=2
        )
        stages.append(
            Stage(width=width, depth=depth, reduction="tokens", normalisation="layer", block=layer)
        )
    # The stem makes the first stage's tokens.
    stages[0] = replace(stages[0], reduction="none")
    stem = PatchStem(width=64, patch=4, overlap=3)
    return _image(stem, stages, fusion=NORMALISED, initialisation="truncated_normal")


def plain_cnn() -> Architecture:
    """Two convolutions of 32 and 64 filters, each pooled, then the average of what they see."""
    stem = ConvolutionStem(width=32, reduction="pool")
    return _image(stem, [Stage(width=64, depth=0, reduction="pool", block=Residual())])


def lstm() -> Architecture:
    """Tokens of a vocabulary of 10,000 read by an LSTM of width 128, its last state classified."""
    stage = Stage(width=128, depth=1, reduction="none", block=Recurrent(dropout=0.2))
    stream = Stream(stem=TokenStem(vocabulary=10_000, width=128), stages=(stage,))
    return Architecture(
        streams={"text": stream}, fusion=Concatenate(pooling="last"), head=Classify()
    )


KNOWN: dict[str, Callable[[], Architecture]] = {
    "vit_tiny": lambda: vit(192, 3),
    "vit_small": lambda: vit(384, 6),
    "vit_base": lambda: vit(768, 12),
    "convnext_atto": lambda: convnext((40, 80, 160, 320), (2, 2, 6, 2)),
    "convnext_femto": lambda: convnext((48, 96, 192, 384), (2, 2, 6, 2)),
    "convnext_pico": lambda: convnext((64, 128, 256, 512), (2, 2, 6, 2)),
    "convnext_nano": lambda: convnext((80, 160, 320, 640), (2, 2, 8, 2)),
    "convnext_tiny": lambda: convnext((96, 192, 384, 768), (3, 3, 9, 3)),
    "convnext_small": lambda: convnext((96, 192, 384, 768), (3, 3, 27, 3)),
    "swin_tiny": lambda: swin(96, (2, 2, 6, 2), 3),
    "swin_small": lambda: swin(96, (2, 2, 18, 2), 3),
    "cvt_13": lambda: cvt((1, 2, 10)),
    "cvt_21": lambda: cvt((1, 4, 16)),
    "plain_cnn": plain_cnn,
    "lstm": lstm,
}
"""By name, what makes the architecture; images of the stream `image`, tokens of `text`."""


def known(name: str) -> Architecture:
    """The network of that name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in KNOWN:
        hint = did_you_mean(name, KNOWN)
        raise UnknownNameError(f"unknown network {name!r}. Known: {', '.join(KNOWN)}.{hint}")
    return KNOWN[name]()


def _merging(widths: Sequence[int], depths: Sequence[int], blocks: Sequence[Block]) -> list[Stage]:
    """Stages of which each but the first merges 2 by 2 tokens."""
    return [
        Stage(
            width=width,
            depth=depth,
            reduction="patch" if index else "none",
            normalisation="layer",
            block=block,
        )
        for index, (width, depth, block) in enumerate(zip(widths, depths, blocks, strict=True))
    ]


def _image(
    stem: Block,
    stages: Sequence[Stage],
    *,
    fusion: Concatenate | None = None,
    initialisation: str = "he",
) -> Architecture:
    return Architecture(
        streams={"image": Stream(stem=stem, stages=tuple(stages))},
        fusion=fusion or Concatenate(),
        head=Classify(),
        initialisation=initialisation,
    )
