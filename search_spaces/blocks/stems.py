"""Stems of images and spectrograms: how they become the first feature map, or sequence."""

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
    """After the convolution: `batch`, `group`, `layer`, `rms` or `none`."""
    activation: str = "relu"
    """At the end: `relu`, `gelu` or `silu`."""
    depth: int = added(1)
    """How many convolutions; the first one halves the map, all have the same kernel and width."""

    def out_shape(self, shape: Shape) -> Shape:
        """The first map's shape.

        Raises:
            UnbuildableError: It is no map, or there is no convolution.
        """
        _, height, width = as_map(shape, "stem")
        if self.depth < 1:
            raise UnbuildableError(f"depth of the stem must be at least 1, not {self.depth}")
        return (self.width, *reduced(self.reduction, height, width))

    def build(self, shape: Shape) -> nn.Module:
        """The module for images of this shape."""
        layers: list[nn.Module] = []
        for index in range(self.depth):
            reduction = "none" if index else self.reduction
            bias = self.normalisation == "none"
            layers += [
                reducing_convolution(reduction, shape, self.width, self.kernel, bias=bias),
                normalisation(self.normalisation, self.width),
                activation(self.activation),
            ]
            shape = self.out_shape(shape) if not index else shape
        return nn.Sequential(*layers)


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
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin near zero: the network first learns what, then where."""
        nn.init.trunc_normal_(self.places_CHW, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The map, its places told apart."""
        return x_BCHW + self.places_CHW


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrogramStem:
    """A spectrogram (1, frequencies, time) made a sequence of steps in time.

    Two convolutions halve frequencies and time, then each step's frequencies become one vector (as
    in Conformer, Gulati et al. 2020). A spectrogram read as an image takes an image's stem instead.
    """

    kind: ClassVar[str] = "spectrogram"
    symbol: ClassVar[str] = "H"
    width: int = 64
    """Channels of the convolutions, and of the first sequence."""
    normalisation: str = "none"
    """After each convolution: `batch`, `group`, `layer`, `rms` or `none`."""
    activation: str = "relu"
    """After each convolution: `relu`, `gelu` or `silu`."""

    def out_shape(self, shape: Shape) -> Shape:
        """The first sequence's shape (length, width)."""
        convolve = self._convolution()
        return convolve.out_shape(convolve.out_shape(shape))[2], self.width

    def build(self, shape: Shape) -> nn.Module:
        """The module for spectrograms of this shape."""
        convolve = self._convolution()
        halved = convolve.out_shape(shape)
        width, frequencies, _ = convolve.out_shape(halved)
        return nn.Sequential(
            convolve.build(shape), convolve.build(halved), Columns(width * frequencies, self.width)
        )

    def _convolution(self) -> ConvolutionStem:
        return ConvolutionStem(
            width=self.width,
            reduction="stride",
            normalisation=self.normalisation,
            activation=self.activation,
        )


class Columns(nn.Module):
    """Each column of a map made one step of a sequence."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The columns from left to right, shape (B, W, width)."""
        y_BNC: Tensor = self.project(x_BCHW.flatten(1, 2).transpose(1, 2))
        return y_BNC


register(STEMS, ConvolutionStem)
register(STEMS, PatchStem)
register(STEMS, SpectrogramStem)
