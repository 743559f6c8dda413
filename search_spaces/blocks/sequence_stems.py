"""Stems of series, text and plain numbers: how they become the first sequence.

A plain vector is a sequence of one step, or of one token a number.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import STEMS, UnbuildableError, register
from search_spaces.task import Shape

# B batch, N steps, C channels, F numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStem:
    """The measurements of each step of a series, mapped to the first width."""

    kind: ClassVar[str] = "series"
    symbol: ClassVar[str] = "S"
    width: int = 64
    """Channels of the first sequence."""

    def out_shape(self, shape: Shape) -> Shape:
        """The first sequence's shape (length, width).

        Raises:
            UnbuildableError: What goes in is no series (length, features).
        """
        if len(shape) != 2 or min(*shape, self.width) < 1:
            raise UnbuildableError(f"stem needs a series (length, features), not {shape}")
        return shape[0], self.width

    def build(self, shape: Shape) -> nn.Module:
        """The module for series of this shape."""
        self.out_shape(shape)
        return nn.Linear(shape[1], self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStem:
    """A learned vector for each token of a vocabulary."""

    kind: ClassVar[str] = "tokens"
    symbol: ClassVar[str] = "E"
    vocabulary: int
    """How many tokens there are; the inputs are numbers from 0 to one below it."""
    width: int = 64
    """Length of the vectors."""

    def out_shape(self, shape: Shape) -> Shape:
        """The first sequence's shape (length, width).

        Raises:
            UnbuildableError: What goes in is no sequence (length,) of tokens.
        """
        if len(shape) != 1 or min(*shape, self.vocabulary, self.width) < 1:
            raise UnbuildableError(f"stem needs a sequence (length,) of tokens, not {shape}")
        return shape[0], self.width

    def build(self, shape: Shape) -> nn.Module:
        """The module for sequences of this length."""
        self.out_shape(shape)
        return Embedding(self.vocabulary, self.width)


class Embedding(nn.Embedding):
    """Looks tokens up, whatever type their numbers arrive in."""

    def forward(self, tokens_BN: Tensor) -> Tensor:
        """Their vectors, shape (B, N, C)."""
        return super().forward(tokens_BN.long())


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorStem:
    """A plain vector of numbers: a row of a table, the state of a physical system."""

    kind: ClassVar[str] = "vector"
    symbol: ClassVar[str] = "V"
    width: int = 64
    """Channels of the first sequence."""
    tokens: bool = False
    """Whether each number becomes a token of its own (Gorishniy et al. 2021, FT-Transformer) rather
    than all together one step."""

    def out_shape(self, shape: Shape) -> Shape:
        """The first sequence's shape (length, width).

        Raises:
            UnbuildableError: What goes in is no vector (numbers,).
        """
        if len(shape) != 1 or min(*shape, self.width) < 1:
            raise UnbuildableError(f"stem needs a vector (numbers,), not {shape}")
        return (shape[0] if self.tokens else 1), self.width

    def build(self, shape: Shape) -> nn.Module:
        """The module for vectors of this length."""
        self.out_shape(shape)
        if self.tokens:
            return NumberTokens(shape[0], self.width)
        return nn.Sequential(AsSteps(), nn.Linear(shape[0], self.width))


class NumberTokens(nn.Module):
    """Each number times a vector of its own, plus another."""

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.weight_FC = nn.Parameter(torch.empty(numbers, width))
        self.bias_FC = nn.Parameter(torch.empty(numbers, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each token begins as large as its number, its place told apart."""
        nn.init.trunc_normal_(self.weight_FC)
        nn.init.trunc_normal_(self.bias_FC, std=0.02)

    def forward(self, x_BF: Tensor) -> Tensor:
        """The tokens, shape (B, F, C)."""
        return x_BF[:, :, None] * self.weight_FC + self.bias_FC


@dataclass(frozen=True, slots=True, kw_only=True)
class RawStem:
    """The input as it is, a vector (numbers,) as a sequence of one step."""

    kind: ClassVar[str] = "raw"
    symbol: ClassVar[str] = "I"

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in.

        Raises:
            UnbuildableError: It is no map, sequence or vector.
        """
        if len(shape) not in (1, 2, 3) or min(shape) < 1:
            raise UnbuildableError(f"stem needs a map, a sequence or a vector, not {shape}")
        return (1, *shape) if len(shape) == 1 else shape

    def build(self, shape: Shape) -> nn.Module:
        """The module for inputs of this shape."""
        return AsSteps() if len(self.out_shape(shape)) != len(shape) else nn.Identity()


class AsSteps(nn.Module):
    """A vector as a sequence of one step."""

    def forward(self, x_BF: Tensor) -> Tensor:
        """The vector, shape (B, 1, F)."""
        return x_BF[:, None]


register(STEMS, SeriesStem)
register(STEMS, TokenStem)
register(STEMS, VectorStem)
register(STEMS, RawStem)
