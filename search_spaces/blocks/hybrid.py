"""Blocks made of blocks: one after the other, or side by side and mixed by a fixed rule.

The mix by a learned gate stands in `gate`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import (
    Block,
    DownsamplingBlock,
    UnbuildableError,
    as_tokens,
    check_name,
    keeping,
    register_block,
    symbols,
)
from search_spaces.task import Shape

# B batch, N tokens, C channels, H heads, E = C / heads

MIXES = ("sum", "concatenate", "cross_attention")
"""Added and halved; side by side, then projected; each first looks at the other."""


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Blocks of different forms, one after the other, repeated together.

    A MaxViT block is MBConv, attention in windows, attention over a grid (Tu et al. 2022); a pair
    of Swin layers is attention in windows and in shifted ones (Liu et al. 2021).
    """

    kind: ClassVar[str] = "chain"
    blocks: tuple[Block, ...]
    """In order."""

    @property
    def symbol(self) -> str:
        """All blocks' letters."""
        return symbols(self.blocks)

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that the last block gives.

        Raises:
            UnbuildableError: There is no block, or one cannot take what the one before gives.
        """
        if not self.blocks:
            raise UnbuildableError("chain needs at least one block")
        for block in self.blocks:
            shape = block.out_shape(shape)
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """The module for inputs of this shape."""
        self.out_shape(shape)
        return nn.Sequential(*self._built(self.blocks, shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """The module whose first block changes width and resolution.

        Raises:
            UnbuildableError: The first block cannot.
        """
        self.out_shape(target)
        first = self.blocks[0]
        if not isinstance(first, DownsamplingBlock):
            raise UnbuildableError(f"{first.kind!r} cannot change the width itself")
        rest = self._built(self.blocks[1:], first.out_shape(target))
        return nn.Sequential(first.downsample(shape, target), *rest)

    def _built(self, blocks: Sequence[Block], shape: Shape) -> list[nn.Module]:
        modules = []
        for block in blocks:
            modules.append(block.build(shape))
            shape = block.out_shape(shape)
        return modules


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """Two branches that see the same input, mixed by a fixed rule (as in Conformer, Peng 2021)."""

    kind: ClassVar[str] = "parallel"
    first: Block
    """One branch; keeps the shape."""
    second: Block
    """The other; keeps the shape."""
    mix: str = "sum"
    """`sum` (halved, so that depth does not double the signal), `concatenate` (and project), or
    `cross_attention` (each asks the other, then `sum`)."""
    heads: int = 4
    """Heads of the cross-attention; without effect otherwise."""

    @property
    def symbol(self) -> str:
        """Both branches' letters."""
        return symbols((self.first, self.second))

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in.

        Raises:
            UnbuildableError: A branch changes the shape or cannot take it, or the heads do not
                divide the channels.
        """
        channels, _, _ = as_tokens(shape, self.kind)
        check_name("mix", self.mix, MIXES)
        if self.mix == "cross_attention" and (self.heads < 1 or channels % self.heads):
            raise UnbuildableError(f"heads must divide {channels} channels, not {self.heads}")
        return keeping(self.kind, (self.first, self.second), shape)

    def build(self, shape: Shape) -> nn.Module:
        """The module for inputs of this shape."""
        self.out_shape(shape)
        channels, _, _ = as_tokens(shape, self.kind)
        mixes: dict[str, Callable[[], nn.Module]] = {
            "sum": MeanMix,
            "concatenate": lambda: Projected(channels),
            "cross_attention": lambda: BidirectionalCrossAttention(channels, self.heads),
        }
        return Branches(self.first.build(shape), self.second.build(shape), mixes[self.mix]())


class Branches(nn.Module):
    """Two modules of one input and what makes one of their results."""

    def __init__(self, first: nn.Module, second: nn.Module, mix: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        """The mix, of the shape that went in."""
        one_BNC, other_BNC = tokens_of(self.first(x)), tokens_of(self.second(x))
        mixed_BNC: Tensor = self.mix(one_BNC, other_BNC)
        if x.dim() == 4:
            mixed_BNC = mixed_BNC.transpose(1, 2)
        return mixed_BNC.reshape(x.shape)


class MeanMix(nn.Module):
    """Half of each."""

    def forward(self, one_BNC: Tensor, other_BNC: Tensor) -> Tensor:
        """Their average."""
        return (one_BNC + other_BNC) / 2


class Projected(nn.Module):
    """Both side by side, each token mapped back to its width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, one_BNC: Tensor, other_BNC: Tensor) -> Tensor:
        """A linear mix of all channels of both."""
        mixed_BNC: Tensor = self.project(torch.cat([one_BNC, other_BNC], dim=2))
        return mixed_BNC


class BidirectionalCrossAttention(nn.Module):
    """Each asks the other and adds the answer; then half of each."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.first = CrossAttention(channels, heads)
        self.second = CrossAttention(channels, heads)

    def forward(self, one_BNC: Tensor, other_BNC: Tensor) -> Tensor:
        """The average of both, informed by each other."""
        mixed_BNC: Tensor = self.first(one_BNC, other_BNC) + self.second(other_BNC, one_BNC)
        return mixed_BNC / 2


class CrossAttention(nn.Module):
    """Tokens that ask other tokens and add what they hear (normalised before)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.other_norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens_BNC: Tensor, other_BMC: Tensor) -> Tensor:
        """The tokens, each informed by all of the others, shape (B, N, C)."""
        query_BNHE = self.query(self.norm(tokens_BNC)).unflatten(2, (self.heads, -1))
        both_BMHE = self.key_value(self.other_norm(other_BMC)).unflatten(2, (2, self.heads, -1))
        key_BHME, value_BHME = both_BMHE.permute(2, 0, 3, 1, 4).unbind(0)
        heard_BHNE = functional.scaled_dot_product_attention(
            query_BNHE.transpose(1, 2), key_BHME, value_BHME
        )
        y_BNC: Tensor = tokens_BNC + self.out(heard_BHNE.transpose(1, 2).flatten(2))
        return y_BNC


def tokens_of(x: Tensor) -> Tensor:
    """A map's places, or a sequence as it is, shape (B, N, C)."""
    tokens_BNC: Tensor = x.flatten(2).transpose(1, 2) if x.dim() == 4 else x
    return tokens_BNC
