"""Stems: how an image becomes the first feature map, and a series or text the first sequence."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import STEMS, UnbuildableError, added, as_map, register
from search_spaces.blocks.normalisation import activation, normalisation
from search_spaces.blocks.reduction import reduced, reducing_convolution
from search_spaces.resolution import patch_side
from search_spaces.task import Shape

# B batch, C channels, H height, W width, N steps


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionStem:
    """One convolution over the image, then normalisation and activation."""

    kind: ClassVar[str] = "convolution"
    symbol: ClassVar[str] = "C"
    width: int = 32
    """Channels of the first map."""
    kernel: int = 3
    """Side of the kernel, odd."""
    reduction: str = "none"
    """How the map is halved: `none`, `stride` or `pool`; too small an image stays as it is."""
    normalisation: str = "batch"
    """After the convolution: `batch`, `group` or `layer`."""
    activation: str = "relu"
    """At the end: `relu`, `gelu` or `silu`."""

    def out_shape(self, shape: Shape) -> Shape:
        """The first map's shape."""
        _, height, width = as_map(shape, "stem")
        return (self.width, *reduced(self.reduction, height, width))

    def build(self, shape: Shape) -> nn.Module:
        """The module for images of this shape."""
        return nn.Sequential(
            reducing_convolution(self.reduction, shape, self.width, self.kernel),
            normalisation(self.normalisation, self.width),
            activation(self.activation),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchStem:
    """The image cut into square patches, each made one token (Dosovitskiy et al. 2021)."""

    kind: ClassVar[str] = "patch"
    symbol: ClassVar[str] = "P"
    width: int = 64
    """Channels of the first map."""
    patch: int = 4
    """Side of a patch; smaller where the image would be cut in fewer than 4 by 4."""
    normalisation: str = "layer"
    """At the end: `batch`, `group`, `layer`, `rms` or `none`."""
    overlap: int = added(0)
    """How many places wider and higher what each token sees is than the patch."""
    positions: bool = added(False)
    """Whether a learned embedding of its place is added to each token, once for all layers."""

    def out_shape(self, shape: Shape) -> Shape:
        """The first map's shape; what is left at the right and lower edge is not seen."""
        _, height, width = as_map(shape, "stem")
        side = self._side(shape)
        return self.width, height // side, width // side

    def build(self, shape: Shape) -> nn.Module:
        """The module for images of this shape."""
        channels, _, _ = as_map(shape, "stem")
        side = self._side(shape)
        if self.overlap < 0:
            raise UnbuildableError(f"overlap must not be negative, not {self.overlap}")
        layers: list[nn.Module] = [nn.Conv2d(channels, self.width, side + self.overlap, side)]
        if self.overlap:
            before = self.overlap // 2
            after = self.overlap - before
            layers.insert(0, nn.ZeroPad2d((before, after, before, after)))
        if self.normalisation != "none":
            layers.append(normalisation(self.normalisation, self.width))
        if self.positions:
            layers.append(Places(self.out_shape(shape)))
        return nn.Sequential(*layers)

    def _side(self, shape: Shape) -> int:
        if self.patch < 1:
            raise UnbuildableError(f"patch must be at least 1, not {self.patch}")
        _, height, width = as_map(shape, "stem")
        return patch_side(self.patch, height, width)


class Places(nn.Module):
    """Adds a learned embedding of its place to every token of a map."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.places_CHW = nn.Parameter(torch.empty(shape))
        self.start()

    def start(self) -> None:
        """Begin near zero: the network first learns what, then where."""
        nn.init.trunc_normal_(self.places_CHW, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The map, its places told apart."""
        return x_BCHW + self.places_CHW


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


register(STEMS, ConvolutionStem)
register(STEMS, SeriesStem)
register(STEMS, TokenStem)
register(STEMS, PatchStem)
