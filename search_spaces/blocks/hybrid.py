"""Blocks made of blocks: one after the other, or in parallel and mixed by a fixed rule.

The mix by a learned gate is in `gate`.
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
"""Average; concatenate and project; cross-attention in both directions."""


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Different blocks, one after the other, repeated together.

    A MaxViT block is MBConv, window attention and grid attention (Tu et al. 2022); a pair of Swin
    layers is window and shifted-window attention (Liu et al. 2021).
    """

    kind: ClassVar[str] = "chain"
    blocks: tuple[Block, ...]
    """The blocks, in order."""

    @property
    def symbol(self) -> str:
        """Return all blocks' letters."""
        return symbols(self.blocks)

    def out_shape(self, shape: Shape) -> Shape:
        """Return the output shape of the last block.

        Raises:
            UnbuildableError: There is no block, or one cannot take the output of the previous one.
        """
        if not self.blocks:
            raise UnbuildableError("chain needs at least one block")
        for block in self.blocks:
            shape = block.out_shape(shape)
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for inputs of this shape."""
        self.out_shape(shape)
        return nn.Sequential(*self._built(self.blocks, shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """Return the module whose first block changes width and resolution.

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
    """Two branches of the same input, mixed by a fixed rule (as in Conformer, Peng et al. 2021)."""

    kind: ClassVar[str] = "parallel"
    first: Block
    """First branch; preserves the shape."""
    second: Block
    """Second branch; preserves the shape."""
    mix: str = "sum"
    """`sum` (halved, so that depth does not double the signal), `concatenate` (then project), or
    `cross_attention` (in both directions, then `sum`)."""
    heads: int = 4
    """Number of heads of the cross-attention; otherwise without effect."""

    @property
    def symbol(self) -> str:
        """Return both branches' letters."""
        return symbols((self.first, self.second))

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

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
        """Return the module for inputs of this shape."""
        self.out_shape(shape)
        channels, _, _ = as_tokens(shape, self.kind)
        mixes: dict[str, Callable[[], nn.Module]] = {
            "sum": MeanMix,
            "concatenate": lambda: Projected(channels),
            "cross_attention": lambda: BidirectionalCrossAttention(channels, self.heads),
        }
        return Branches(self.first.build(shape), self.second.build(shape), mixes[self.mix]())


class Branches(nn.Module):
    """Two modules of the same input, and the module that mixes their outputs."""

    def __init__(self, first: nn.Module, second: nn.Module, mix: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        """Return the mix, of the input shape."""
        one_BNC, other_BNC = tokens_of(self.first(x)), tokens_of(self.second(x))
        mixed_BNC: Tensor = self.mix(one_BNC, other_BNC)
        if x.dim() == 4:
            mixed_BNC = mixed_BNC.transpose(1, 2)
        return mixed_BNC.reshape(x.shape)


class MeanMix(nn.Module):
    """Mean of both branches."""

    def forward(self, one_BNC: Tensor, other_BNC: Tensor) -> Tensor:
        """Return the mean."""
        return (one_BNC + other_BNC) / 2


class Projected(nn.Module):
    """Concatenation of both branches, projected per token to their width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, one_BNC: Tensor, other_BNC: Tensor) -> Tensor:
        """Return a linear mix of all channels of both branches."""
        mixed_BNC: Tensor = self.project(torch.cat([one_BNC, other_BNC], dim=2))
        return mixed_BNC


class BidirectionalCrossAttention(nn.Module):
    """Cross-attention in both directions, then the mean."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.first = CrossAttention(channels, heads)
        self.second = CrossAttention(channels, heads)

    def forward(self, one_BNC: Tensor, other_BNC: Tensor) -> Tensor:
        """Return the mean of both branches after cross-attention."""
        mixed_BNC: Tensor = self.first(one_BNC, other_BNC) + self.second(other_BNC, one_BNC)
        return mixed_BNC / 2


class CrossAttention(nn.Module):
    """Pre-norm cross-attention with a residual connection."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.other_norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens_BNC: Tensor, other_BMC: Tensor) -> Tensor:
        """Return the tokens after attention to the others, shape (B, N, C)."""
        query_BNHE = self.query(self.norm(tokens_BNC)).unflatten(2, (self.heads, -1))
        both_BMHE = self.key_value(self.other_norm(other_BMC)).unflatten(2, (2, self.heads, -1))
        key_BHME, value_BHME = both_BMHE.permute(2, 0, 3, 1, 4).unbind(0)
        heard_BHNE = functional.scaled_dot_product_attention(
            query_BNHE.transpose(1, 2), key_BHME, value_BHME
        )
        y_BNC: Tensor = tokens_BNC + self.out(heard_BHNE.transpose(1, 2).flatten(2))
        return y_BNC


def tokens_of(x: Tensor) -> Tensor:
    """Return the positions of a map, or a sequence as it is, shape (B, N, C)."""
    tokens_BNC: Tensor = x.flatten(2).transpose(1, 2) if x.dim() == 4 else x
    return tokens_BNC
