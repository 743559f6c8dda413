"""Stems: how an image becomes the first feature map."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from search_spaces.blocks.block import STEMS, UnbuildableError, as_map, register
from search_spaces.blocks.normalisation import activation, normalisation
from search_spaces.blocks.reduction import reduced, reducing_convolution
from search_spaces.resolution import patch_side
from search_spaces.task import Shape

# B batch, C channels, H height, W width


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
    """At the end: `batch`, `group` or `layer`."""

    def out_shape(self, shape: Shape) -> Shape:
        """The first map's shape; what is left at the right and lower edge is not seen."""
        _, height, width = as_map(shape, "stem")
        side = self._side(shape)
        return self.width, height // side, width // side

    def build(self, shape: Shape) -> nn.Module:
        """The module for images of this shape."""
        channels, _, _ = as_map(shape, "stem")
        side = self._side(shape)
        return nn.Sequential(
            nn.Conv2d(channels, self.width, side, stride=side),
            normalisation(self.normalisation, self.width),
        )

    def _side(self, shape: Shape) -> int:
        if self.patch < 1:
            raise UnbuildableError(f"patch must be at least 1, not {self.patch}")
        _, height, width = as_map(shape, "stem")
        return patch_side(self.patch, height, width)


register(STEMS, ConvolutionStem)
register(STEMS, PatchStem)
