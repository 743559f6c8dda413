"""Stems of series, text and vectors: the first sequence of a stream.

A vector becomes a sequence of one step, or of one token per number.
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
    """Linear projection of the measurements of each step."""

    kind: ClassVar[str] = "series"
    symbol: ClassVar[str] = "S"
    width: int = 64
    """Width of the first sequence."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape (length, width) of the first sequence.

        Raises:
            UnbuildableError: The input is not a series (length, features).
        """
        if len(shape) != 2 or min(*shape, self.width) < 1:
            raise UnbuildableError(f"stem needs a series (length, features), not {shape}")
        return shape[0], self.width

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for series of this shape."""
        self.out_shape(shape)
        return nn.Linear(shape[1], self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStem:
    """Learned embedding of the tokens of a vocabulary."""

    kind: ClassVar[str] = "tokens"
    symbol: ClassVar[str] = "E"
    vocabulary: int
    """Size of the vocabulary; inputs are integers from 0 to one less."""
    width: int = 64
    """Length of the embeddings."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape (length, width) of the first sequence.

        Raises:
            UnbuildableError: The input is not a sequence (length,) of tokens.
        """
        if len(shape) != 1 or min(*shape, self.vocabulary, self.width) < 1:
            raise UnbuildableError(f"stem needs a sequence (length,) of tokens, not {shape}")
        return shape[0], self.width

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for sequences of this length."""
        self.out_shape(shape)
        return Embedding(self.vocabulary, self.width)


class Embedding(nn.Embedding):
    """Token embedding for inputs of any integer or float type."""

    def forward(self, tokens_BN: Tensor) -> Tensor:
        """Return the embeddings, shape (B, N, C)."""
        return super().forward(tokens_BN.long())


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorStem:
    """Stem of vectors, such as a row of a table or the state of a physical system."""

    kind: ClassVar[str] = "vector"
    symbol: ClassVar[str] = "V"
    width: int = 64
    """Width of the first sequence."""
    tokens: bool = False
    """Make each number a token (Gorishniy et al. 2021, FT-Transformer) instead of all one step."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape (length, width) of the first sequence.

        Raises:
            UnbuildableError: The input is not a vector (numbers,).
        """
        if len(shape) != 1 or min(*shape, self.width) < 1:
            raise UnbuildableError(f"stem needs a vector (numbers,), not {shape}")
        return (shape[0] if self.tokens else 1), self.width

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for vectors of this length."""
        self.out_shape(shape)
        if self.tokens:
            return NumberTokens(shape[0], self.width)
        return nn.Sequential(AsSteps(), nn.Linear(shape[0], self.width))


class NumberTokens(nn.Module):
    """Tokenizer of numbers: each is multiplied by a learned vector, plus a learned bias."""

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.weight_FC = nn.Parameter(torch.empty(numbers, width))
        self.bias_FC = nn.Parameter(torch.empty(numbers, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with tokens of the scale of their numbers, distinguished by their bias."""
        nn.init.trunc_normal_(self.weight_FC)
        nn.init.trunc_normal_(self.bias_FC, std=0.02)

    def forward(self, x_BF: Tensor) -> Tensor:
        """Return the tokens, shape (B, F, C)."""
        return x_BF[:, :, None] * self.weight_FC + self.bias_FC


@dataclass(frozen=True, slots=True, kw_only=True)
class RawStem:
    """Passes the input on; a vector (numbers,) becomes a sequence of one step."""

    kind: ClassVar[str] = "raw"
    symbol: ClassVar[str] = "I"

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

        Raises:
            UnbuildableError: The input is neither map, sequence nor vector.
        """
        if len(shape) not in (1, 2, 3) or min(shape) < 1:
            raise UnbuildableError(f"stem needs a map, a sequence or a vector, not {shape}")
        return (1, *shape) if len(shape) == 1 else shape

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for inputs of this shape."""
        return AsSteps() if len(self.out_shape(shape)) != len(shape) else nn.Identity()


class AsSteps(nn.Module):
    """Makes a vector a sequence of one step."""

    def forward(self, x_BF: Tensor) -> Tensor:
        """Return the sequence, shape (B, 1, F)."""
        return x_BF[:, None]


register(STEMS, SeriesStem)
register(STEMS, TokenStem)
register(STEMS, VectorStem)
register(STEMS, RawStem)
