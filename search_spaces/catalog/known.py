"""Networks from the literature as architectures, by name.

Known differences: Vision Transformers and CvT use global average pooling, like timm's `gap`
variants, instead of a class token. Patch merging is a convolution with bias, which Swin's is not.
Convolution blocks of CoAtNet and MaxViT normalize after each convolution, without the normalization
before the first. Transformer-XL is pre-norm, has a separate output matrix, and predicts one step.
Conformer is the encoder for speech (Gulati et al. 2020) without the layer normalization at the end
of each block; the network of that name for images (Peng et al. 2021) keeps maps and tokens of two
sizes at once, which no stage here does.
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
    ConformerConvolution,
    ConvNeXt,
    ConvolutionStem,
    FeedForward,
    MBConv,
    PatchStem,
    RawStem,
    Recurrent,
    Regress,
    Residual,
    SegmentMemory,
    SpectrogramStem,
    Stage,
    TokenStem,
)
from search_spaces.plugins import UnknownNameError, did_you_mean

NORMALIZED = Concatenate(normalisation="layer")


def vit(width: int, heads: int) -> Architecture:
    """Return a Vision Transformer of 12 layers, patches of 16 by 16 (Dosovitskiy et al. 2021)."""
    layer = Attention(heads=heads, mlp_ratio=4.0, positions="none")
    stem = PatchStem(width=width, patch=16, normalisation="none", positions=True)
    stage = Stage(width=width, depth=12, reduction="none", normalisation="layer", block=layer)
    return _image(stem, [stage], fusion=NORMALIZED, initialisation="truncated_normal")


def convnext(widths: Sequence[int], depths: Sequence[int]) -> Architecture:
    """Return a ConvNeXt (Liu et al. 2022)."""
    block = ConvNeXt(layer_scale=1e-6)
    stages = _merging(widths, depths, [block] * len(widths))
    stem = PatchStem(width=widths[0], patch=4)
    return _image(stem, stages, fusion=NORMALIZED, initialisation="truncated_normal")


def swin(width: int, depths: Sequence[int], heads: int) -> Architecture:
    """Return a Swin Transformer: pairs of window and shifted-window attention (Liu et al. 2021)."""
    widths = [width * 2**index for index in range(len(depths))]
    blocks = []
    for index in range(len(depths)):
        layer = Attention(
            heads=heads * 2**index, mlp_ratio=4.0, positions="relative", scope="window", window=7
        )
        blocks.append(Chain(blocks=(layer, replace(layer, scope="shifted"))))
    stages = _merging(widths, [depth // 2 for depth in depths], blocks)
    stem = PatchStem(width=width, patch=4)
    return _image(stem, stages, fusion=NORMALIZED, initialisation="truncated_normal")


def cvt(depths: Sequence[int]) -> Architecture:
    """Return a CvT (Wu et al. 2021): convolutional tokens and projections, no positions."""
    stages = []
    for width, heads, depth in zip((64, 192, 384), (1, 3, 6), depths, strict=True):
        layer = Attention(
            heads=heads, mlp_ratio=4.0, positions="none", form="convolution", stride=2
        )
        stages.append(
            Stage(width=width, depth=depth, reduction="tokens", normalisation="layer", block=layer)
        )
    # The stem already makes the tokens of the first stage.
    stages[0] = replace(stages[0], reduction="none")
    stem = PatchStem(width=64, patch=4, overlap=3)
    return _image(stem, stages, fusion=NORMALIZED, initialisation="truncated_normal")


def coatnet(depths: Sequence[int]) -> Architecture:
    """Return a CoAtNet of MBConv and relative attention (Dai et al. 2021, table 3)."""
    widths = (96, 192, 384, 768)
    convolution = MBConv(squeeze=True, activation="gelu", halving="first")
    blocks: list[Block] = [convolution, convolution, _relative(384), _relative(768)]
    return _image(
        ConvolutionStem(width=64, reduction="stride", activation="gelu", depth=2),
        _entering(widths, depths, blocks),
        fusion=NORMALIZED,
        initialisation="truncated_normal",
        hidden=768,
    )


def maxvit(widths: Sequence[int], depths: Sequence[int]) -> Architecture:
    """Return a MaxViT (Tu et al. 2022): blocks of MBConv, window attention and grid attention."""
    blocks = []
    for width in widths:
        window = replace(_relative(width), scope="window", window=7)
        convolution = MBConv(squeeze=True, activation="gelu")
        blocks.append(Chain(blocks=(convolution, window, replace(window, scope="grid"))))
    return _image(
        ConvolutionStem(width=64, reduction="stride", activation="gelu", depth=2),
        _entering(widths, depths, blocks),
        fusion=NORMALIZED,
        initialisation="truncated_normal",
        hidden=widths[-1],
    )


def conformer(width: int, depth: int, heads: int) -> Architecture:
    """Return a Conformer's encoder (Gulati et al. 2020, table 1) for 80 frequencies over time."""
    half = FeedForward(mlp_ratio=4.0, activation="silu", dropout=0.1, share=0.5)
    layer = Attention(heads=heads, mlp_ratio=0.0, positions="sinusoidal")
    block = Chain(blocks=(half, layer, ConformerConvolution(kernel=31), half))
    stage = Stage(width=width, depth=depth, reduction="none", block=block)
    return Architecture(
        streams={"sound": Stream(stem=SpectrogramStem(width=width), stages=(stage,))},
        fusion=NORMALIZED,
        head=Classify(),
        initialisation="xavier",
    )


def transformer_xl(width: int, depth: int, heads: int) -> Architecture:
    """Return a Transformer-XL (Dai et al. 2019) over bytes, as for enwik8: segments of 512."""
    layer = SegmentMemory(segment=512, heads=heads, mlp_ratio=4.0, positions="sinusoidal")
    return _text(TokenStem(vocabulary=204, width=width), layer, width, depth)


def hybrid_cvt() -> Architecture:
    """Return convolutions of 64 filters for texture, then attention of 8 heads for layout.

    From 256 by 256 positions, 16 by 16 tokens of width 256 remain; the path there and the four
    layers after it are our choice.
    """
    narrow = Stage(width=128, depth=0, reduction="stride", block=Residual())
    layer = Attention(heads=8, mlp_ratio=4.0, positions="relative")
    return _image(
        ConvolutionStem(width=64, activation="gelu", reduction="pool"),
        [
            narrow,
            replace(narrow, width=256),
            Stage(width=256, depth=4, reduction="tokens", normalisation="layer", block=layer),
        ],
        fusion=NORMALIZED,
    )


def dense_cnn(*filters: int) -> Architecture:
    """Return a CNN of 3x3 convolutions with bias, ReLU and pooling, then one dense layer."""
    stages = [
        Stage(width=width, depth=0, reduction="pool", normalisation="none", block=Residual())
        for width in filters[1:]
    ]
    stem = ConvolutionStem(width=filters[0], reduction="pool", normalisation="none")
    return _image(stem, stages, fusion=Concatenate(pooling="flatten"))


def plain_cnn() -> Architecture:
    """Return a CNN of two convolutions of 32 and 64 filters with pooling, then global pooling."""
    stem = ConvolutionStem(width=32, reduction="pool")
    return _image(stem, [Stage(width=64, depth=0, reduction="pool", block=Residual())])


def lstm() -> Architecture:
    """Return a classifier of the last state of an LSTM of width 128 over 10,000 token types."""
    stem = TokenStem(vocabulary=10_000, width=128)
    return _text(stem, Recurrent(dropout=0.2), 128, 1)


def lstm_series() -> Architecture:
    """Return a regressor of the last state of an LSTM of width 64 over a series."""
    stage = Stage(width=64, depth=1, reduction="block", block=Recurrent())
    return Architecture(
        streams={"series": Stream(stem=RawStem(), stages=(stage,))},
        fusion=Concatenate(pooling="last"),
        head=Regress(),
    )


def encoder() -> Architecture:
    """Return a Transformer encoder of 2 layers, width 512, 4 heads (Vaswani et al. 2017)."""
    layer = Attention(heads=4, mlp_ratio=4.0, activation="relu")
    text = _text(TokenStem(vocabulary=10_000, width=512), layer, 512, 2)
    return replace(text, fusion=Concatenate())


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
    "coatnet_0": lambda: coatnet((2, 3, 5, 2)),
    "maxvit_tiny": lambda: maxvit((64, 128, 256, 512), (2, 2, 5, 2)),
    "conformer_small": lambda: conformer(144, 16, 4),
    "transformer_xl_12": lambda: transformer_xl(512, 12, 8),
    "hybrid_cvt": hybrid_cvt,
    "plain_cnn": plain_cnn,
    "cnn_64": lambda: dense_cnn(32),
    "cnn_28": lambda: dense_cnn(32, 64),
    "lstm": lstm,
    "lstm_series": lstm_series,
    "encoder": encoder,
}
"""Factories by name. Their networks read the stream `image`, the tokens of `text`, a `series` of
measurements, or a spectrogram of `sound`."""


def known(name: str) -> Architecture:
    """Return the network of that name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in KNOWN:
        hint = did_you_mean(name, KNOWN)
        raise UnknownNameError(f"unknown network {name!r}. Known: {', '.join(KNOWN)}.{hint}")
    return KNOWN[name]()


def _merging(widths: Sequence[int], depths: Sequence[int], blocks: Sequence[Block]) -> list[Stage]:
    """Return stages of which all but the first merge 2 by 2 tokens."""
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
    hidden: int = 0,
) -> Architecture:
    return Architecture(
        streams={"image": Stream(stem=stem, stages=tuple(stages))},
        fusion=fusion or Concatenate(),
        head=Classify(hidden=hidden),
        initialisation=initialisation,
    )


def _entering(widths: Sequence[int], depths: Sequence[int], blocks: Sequence[Block]) -> list[Stage]:
    """Return stages whose first block halves the map itself."""
    return [
        Stage(width=width, depth=depth, reduction="block", block=block)
        for width, depth, block in zip(widths, depths, blocks, strict=True)
    ]


def _relative(width: int) -> Attention:
    """Return a Transformer layer with relative positions and a head per 32 channels."""
    return Attention(heads=width // 32, mlp_ratio=4.0, positions="relative")


def _text(stem: TokenStem, block: Block, width: int, depth: int) -> Architecture:
    """Return a network of one stage over tokens, whose last step is the embedding."""
    stage = Stage(width=width, depth=depth, reduction="none", block=block)
    return Architecture(
        streams={"text": Stream(stem=stem, stages=(stage,))},
        fusion=Concatenate(pooling="last"),
        head=Classify(),
    )
