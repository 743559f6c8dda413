"""The vocabulary of networks: one idea a file, each piece a frozen value that builds its module.

Importing this package registers every piece that ships with it.
"""

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.block import Block, UnbuildableError, register_block
from search_spaces.blocks.convolution import ConvNeXt, MBConv, Residual
from search_spaces.blocks.feed_forward import ConformerConvolution, FeedForward
from search_spaces.blocks.fusion import Concatenate, CrossAttentionFusion, Gated, TwoTower
from search_spaces.blocks.gate import Gate
from search_spaces.blocks.heads import Classify, MultiTaskHead, ProjectionHead, Regress
from search_spaces.blocks.hybrid import Chain, Parallel
from search_spaces.blocks.recurrent import Recurrent, TemporalConvolution
from search_spaces.blocks.segment_memory import SegmentMemory
from search_spaces.blocks.sequence_stems import RawStem, SeriesStem, TokenStem, VectorStem
from search_spaces.blocks.stage import Stage
from search_spaces.blocks.stems import ConvolutionStem, PatchStem, SpectrogramStem

__all__ = [
    "Attention",
    "Block",
    "Chain",
    "Classify",
    "Concatenate",
    "ConformerConvolution",
    "ConvNeXt",
    "ConvolutionStem",
    "CrossAttentionFusion",
    "FeedForward",
    "Gate",
    "Gated",
    "MBConv",
    "MultiTaskHead",
    "Parallel",
    "PatchStem",
    "ProjectionHead",
    "RawStem",
    "Recurrent",
    "Regress",
    "Residual",
    "SegmentMemory",
    "SeriesStem",
    "SpectrogramStem",
    "Stage",
    "TemporalConvolution",
    "TokenStem",
    "TwoTower",
    "UnbuildableError",
    "VectorStem",
    "register_block",
]
