"""Stems of images and spectrograms: the first feature map, or sequence, of a stream."""

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
    """Convolutions over the image, each with normalization and activation."""

    kind: ClassVar[str] = "convolution"
    symbol: ClassVar[str] = "C"
    width: int = 32
    """Channels of the first map."""
    kernel: int = 3
    """Kernel size, odd."""
    reduction: str = "none"
    """Downsampling: `none`, `stride` or `pool`; small images are not halved."""
    normalisation: str = "batch"
    """Normalization after the convolution: `batch`, `group`, `layer`, `rms` or `none`."""
    activation: str = "relu"
    """Activation at the end: `relu`, `gelu` or `silu`."""
    depth: int = added(1)
    """Number of convolutions; the first one downsamples, all have the same kernel and width."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the first map.

        Raises:
            UnbuildableError: The input is no map, or the depth is below 1.
        """
        _, height, width = as_map(shape, "stem")
        if self.depth < 1:
            raise UnbuildableError(f"depth of the stem must be at least 1, not {self.depth}")
        return (self.width, *reduced(self.reduction, height, width))

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for images of this shape."""
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
    """Patch embedding: one token per square patch (Dosovitskiy et al. 2021)."""

    kind: ClassVar[str] = "patch"
    symbol: ClassVar[str] = "P"
    width: int = 64
    """Channels of the first map."""
    patch: int = 4
    """Side of a patch; smaller where the image has fewer than 4 by 4 patches."""
    normalisation: str = "layer"
    """Normalization at the end: `batch`, `group`, `layer`, `rms` or `none`."""
    overlap: int = added(0)
    """Number of pixels by which the receptive field of a token exceeds its patch."""
    positions: bool = added(False)
    """Add a learned position embedding once, for all layers."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the first map; a remainder at the right and lower edge is dropped."""
        _, height, width = as_map(shape, "stem")
        side = self._side(shape)
        return self.width, height // side, width // side

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for images of this shape."""
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
            layers.append(PositionEmbedding(self.out_shape(shape)))
        return nn.Sequential(*layers)

    def _side(self, shape: Shape) -> int:
        if self.patch < 1:
            raise UnbuildableError(f"patch must be at least 1, not {self.patch}")
        _, height, width = as_map(shape, "stem")
        return patch_side(self.patch, height, width)


class PositionEmbedding(nn.Module):
    """Learned position embedding of a map."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.places_CHW = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start near zero, so that content counts before position."""
        nn.init.trunc_normal_(self.places_CHW, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the map plus the embedding."""
        return x_BCHW + self.places_CHW


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrogramStem:
    """Makes a spectrogram (1, frequencies, time) a sequence over time.

    Two strided convolutions, then a projection of all frequencies of a step (as in Conformer,
    Gulati et al. 2020). To read a spectrogram as an image, use a stem of images.
    """

    kind: ClassVar[str] = "spectrogram"
    symbol: ClassVar[str] = "H"
    width: int = 64
    """Channels of the convolutions, and width of the first sequence."""
    normalisation: str = "none"
    """Normalization after each convolution: `batch`, `group`, `layer`, `rms` or `none`."""
    activation: str = "relu"
    """Activation after each convolution: `relu`, `gelu` or `silu`."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape (length, width) of the first sequence."""
        convolve = self._convolution()
        return convolve.out_shape(convolve.out_shape(shape))[2], self.width

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for spectrograms of this shape."""
        convolve = self._convolution()
        halved = convolve.out_shape(shape)
        width, frequencies, _ = convolve.out_shape(halved)
        return nn.Sequential(
            convolve.build(shape),
            convolve.build(halved),
            ColumnProjection(width * frequencies, self.width),
        )

    def _convolution(self) -> ConvolutionStem:
        return ConvolutionStem(
            width=self.width,
            reduction="stride",
            normalisation=self.normalisation,
            activation=self.activation,
        )


class ColumnProjection(nn.Module):
    """Projects each column of a map to one step of a sequence."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the columns from left to right, shape (B, W, width)."""
        y_BNC: Tensor = self.project(x_BCHW.flatten(1, 2).transpose(1, 2))
        return y_BNC


register(STEMS, ConvolutionStem)
register(STEMS, PatchStem)
register(STEMS, SpectrogramStem)
