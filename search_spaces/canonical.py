"""Canonical form of an architecture on a task: options without effect get their default.

It identifies duplicates; the candidate keeps its own encoding. Only built-in blocks are simplified,
not those of users.
"""

from dataclasses import replace

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Block,
    Chain,
    Concatenate,
    ConvolutionStem,
    CrossAttentionFusion,
    Gate,
    Gated,
    MBConv,
    Parallel,
    PatchStem,
    Residual,
    SegmentMemory,
    Stage,
    TemporalConvolution,
    TwoTower,
)
from search_spaces.blocks.block import as_tokens
from search_spaces.resolution import patch_side
from search_spaces.task import Shape, Task

PLAIN = Attention()
"""Source of the values of options without effect."""
POOLING = (CrossAttentionFusion, Concatenate, Gated, TwoTower)
"""Fusions that pool the streams."""
_SEGMENT = SegmentMemory().segment


def canonical(architecture: Architecture, task: Task) -> Architecture:
    """Return the canonical form, equal for all encodings of the same network.

    Raises:
        UnbuildableError: The network does not fit the task.
    """
    shapes = architecture.walk(task)
    streams = {
        name: _stream(stream, task.inputs[name]) for name, stream in architecture.streams.items()
    }
    fusion = architecture.fusion
    last = [
        shapes[f"streams.{name}.{list(stream.pieces())[-1][0]}"]
        for name, stream in architecture.streams.items()
    ]
    if isinstance(fusion, POOLING) and all(map(_is_one_place, last)):
        fusion = replace(fusion, pooling="average")
    return replace(architecture, streams=streams, fusion=fusion)


def _is_one_place(shape: Shape) -> bool:
    return as_tokens(shape, "map")[1:] == (1, 1)


def _stream(stream: Stream, shape: Shape) -> Stream:
    stem = _stem(stream.stem, shape)
    shape = stem.out_shape(shape)
    stages = []
    last = len(stream.stages) - 1
    for index, stage in enumerate(stream.stages):
        plain = _stage(stage, shape)
        # Keep the last one: auxiliary heads read the map before it.
        if plain.depth or plain.downsampled_shape(shape) != shape or index == last:
            stages.append(plain)
        shape = plain.out_shape(shape)
    return Stream(stem=stem, stages=tuple(stages))


def _stem(stem: Block, shape: Shape) -> Block:
    if isinstance(stem, ConvolutionStem) and stem.out_shape(shape)[1:] == shape[1:]:
        return replace(stem, reduction="none")
    if isinstance(stem, PatchStem):
        return replace(stem, patch=patch_side(stem.patch, *shape[1:]))
    return stem


def _stage(stage: Stage, shape: Shape) -> Stage:
    """Return the stage without options that have no effect on inputs of this shape."""
    entered = stage.downsampled_shape(shape)
    halves = stage.reduction == "block" and entered[1:] != shape[1:]
    block = _block(stage.block, entered, halves=halves) if stage.depth else Residual()
    stage = replace(stage, block=block)
    if len(shape) == 2 and _is_one_place(shape):
        stage = replace(stage, kernel=3)  # a single step has no neighbors
    if entered == shape:
        return Stage(width=stage.width, depth=stage.depth, block=block, reduction="none")
    if stage.reduction == "patch":
        return replace(stage, kernel=3)
    if stage.reduction == "block":
        return replace(stage, kernel=3, normalisation="batch")
    kept = replace(stage, reduction="none").downsampled_shape(shape) == entered
    return replace(stage, reduction="none") if kept and stage.reduction != "tokens" else stage


def _block(block: Block, shape: Shape, *, halves: bool) -> Block:
    """Return the block without options that have no effect on inputs of this shape.

    Args:
        block: Any block.
        shape: Input shape of the stage's second block.
        halves: The stage's first block has to halve the map.
    """
    plain = block
    match block:
        case Attention():
            plain = _attention(block, shape)
        case MBConv() if not halves:
            plain = replace(block, halving=MBConv().halving)
        case SegmentMemory() if block.segment >= shape[0]:
            plain = replace(block, segment=max(_SEGMENT, shape[0]))
        case TemporalConvolution(kernel=1):
            plain = replace(block, dilation=1)
        case TemporalConvolution():
            # The padding before the first step is zero, however long.
            plain = replace(block, dilation=min(block.dilation, shape[0]))
        case Gate():
            sides = (block.convolution, block.attention)
            convolution, attention = (_block(side, shape, halves=halves) for side in sides)
            plain = replace(block, convolution=convolution, attention=attention)
        case Parallel():
            first, second = (_block(b, shape, halves=halves) for b in (block.first, block.second))
            heads = block.heads if block.mix == "cross_attention" else PLAIN.heads
            plain = replace(block, first=first, second=second, heads=heads)
        case Chain():
            plain = _chain(block, shape, halves=halves)
    return plain


def _attention(block: Attention, shape: Shape) -> Attention:
    _, height, width = as_tokens(shape, block.kind)
    if block.window >= max(height, width):
        block = replace(block, scope="all")
    if block.scope == "all":
        block = replace(block, window=PLAIN.window)
    if not block.mlp_ratio:
        block = replace(block, activation=PLAIN.activation)
    if block.positions == "rotary" and height * width == 1:
        block = replace(block, positions="none")  # a single token is not rotated
    return block if block.form == "convolution" else replace(block, stride=PLAIN.stride)


def _chain(chain: Chain, shape: Shape, *, halves: bool) -> Block:
    blocks: list[Block] = []
    for place, block in enumerate(chain.blocks):
        plain = _block(block, shape, halves=halves and place == 0)
        blocks += plain.blocks if isinstance(plain, Chain) else [plain]
        shape = block.out_shape(shape)
    return blocks[0] if len(blocks) == 1 else Chain(blocks=tuple(blocks))
