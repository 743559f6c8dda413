"""`wide`: all hybrid forms in one space.

Convolution and attention in sequence, interleaved in one block, and in parallel with a fixed mix or
a gate; attention by form, positions and pattern. Larger than `hybrid`, for longer searches.
"""

from search_spaces.blocks import Attention, Block, Chain, Gate, MBConv, Parallel, Residual, Stage
from search_spaces.catalog import parts
from search_spaces.domains import (
    Const,
    Domain,
    FloatRange,
    IntRange,
    OneOf,
    Record,
    Repeat,
)
from search_spaces.domains.priors import likely_first
from search_spaces.space import SearchSpace

DEFAULT_STAGES = (
    Stage(width=48, depth=1, reduction="pool", block=Residual()),
    Stage(width=96, depth=1, reduction="pool", block=Attention(positions="relative")),
)
"""Default stages, which every study tries first: convolutions, then relative attention on few
tokens."""

WINDOW = Attention(scope="window", window=4, positions="relative")
GRID = Attention(scope="grid", window=4, positions="relative")
SHIFTED = Attention(scope="shifted", window=4, positions="relative")


def space() -> SearchSpace:
    """Return the space of all hybrid forms for images of at least 8 by 8."""
    stage = parts.stage(
        {**parts.convolutions(), **attentions(), **interleaved(), **side_by_side()},
        width=IntRange(32, 128, step=16, prior=64),
        depth=IntRange(1, 2, prior=1),
        reduction=likely_first("pool", "stride", "none", "tokens", "patch"),
    )
    stem = parts.convolution_stem(
        IntRange(16, 48, step=8, prior=24), likely_first("pool", "stride")
    )
    return SearchSpace.of(
        name="wide",
        version="1",
        architecture=parts.classifier(stem, Repeat(stage, 2, 4, initial=DEFAULT_STAGES, prior=2)),
    )


def attention() -> Domain[Attention]:
    """Return Transformer layers with global attention and any positional encoding."""
    return Record(
        Attention,
        {
            # Rotary positions of a map need four channels per head; eight heads have fewer.
            "heads": likely_first(4, 2),
            "mlp_ratio": FloatRange(1.0, 4.0, step=0.5, prior=2.0),
            "drop_path": FloatRange(0.0, 0.2, step=0.05, prior=0.0),
            "positions": likely_first("relative", "learned", "rotary", "none"),
            "normalisation": likely_first("layer", "rms"),
            "layer_scale": FloatRange(0.0, 0.2, step=0.1, prior=0.0),
        },
    )


def attentions() -> dict[str, Domain[Block]]:
    """Return all forms of attention by their label."""
    heads = likely_first(4, 2, 8)
    ratio = FloatRange(1.0, 4.0, step=0.5, prior=2.0)
    linear = Record(Attention, {"heads": heads, "mlp_ratio": ratio, "form": Const("linear")})
    convolved = Record(
        Attention,
        {
            "heads": heads,
            "mlp_ratio": ratio,
            "positions": Const("none"),
            "form": Const("convolution"),
            "stride": likely_first(2, 1),
        },
    )
    return {"attention": attention(), "linear": linear, "convolved": convolved}


def interleaved() -> dict[str, Domain[Block]]:
    """Return blocks of several layers by their label: as in MaxViT, and as in Swin."""
    block = Chain(blocks=(MBConv(), WINDOW, GRID))
    squeezed = Chain(blocks=(MBConv(squeeze=True), WINDOW, GRID))
    return {
        "interleaved": OneOf({"plain": Const(block), "squeeze": Const(squeezed)}),
        "windows": Const(Chain(blocks=(WINDOW, SHIFTED))),
    }


def side_by_side() -> dict[str, Domain[Block]]:
    """Return convolution in parallel to attention, by the label of their mix."""
    convolution: Domain[Block] = OneOf({**parts.convolutions()}, prior="residual", confidence="low")
    gate = Record(
        Gate,
        {
            "convolution": convolution,
            "attention": attention(),
            "detail": likely_first("channel", "scalar", "token"),
            "hard": likely_first(False, True),
        },
    )
    parallel = Record(
        Parallel,
        {
            "first": convolution,
            "second": attention(),
            "mix": likely_first("sum", "concatenate", "cross_attention"),
        },
    )
    return {"gate": gate, "parallel": parallel}
