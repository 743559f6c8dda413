"""The vocabulary of networks: one idea a file, each piece a frozen value that builds its module.

Importing this package registers every piece that ships with it.
"""

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.block import Block, UnbuildableError, register_block
from search_spaces.blocks.convolution import ConvNeXt, MBConv, Residual
from search_spaces.blocks.fusion import Concatenate
from search_spaces.blocks.gate import Gate
from search_spaces.blocks.heads import Classify
from search_spaces.blocks.hybrid import Chain, Parallel
from search_spaces.blocks.recurrent import Recurrent, TemporalConvolution
from search_spaces.blocks.segment_memory import SegmentMemory
from search_spaces.blocks.stage import Stage
from search_spaces.blocks.stems import ConvolutionStem, PatchStem, SeriesStem, TokenStem

__all__ = [
    "Attention",
    "Block",
    "Chain",
    "Classify",
    "Concatenate",
    "ConvNeXt",
    "ConvolutionStem",
    "Gate",
    "MBConv",
    "Parallel",
    "PatchStem",
    "Recurrent",
    "Residual",
    "SegmentMemory",
    "SeriesStem",
    "Stage",
    "TemporalConvolution",
    "TokenStem",
    "UnbuildableError",
    "register_block",
]
