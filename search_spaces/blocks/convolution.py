"""Convolution blocks that keep a map's shape: residual, MBConv and ConvNeXt style."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from search_spaces.blocks.block import UnbuildableError, added, as_map, register_block
from search_spaces.blocks.drop_path import DropPath
from search_spaces.blocks.layer_scale import layer_scale
from search_spaces.blocks.normalisation import activation, normalisation
from search_spaces.task import Shape

# B batch, C channels, H height, W width


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Two convolutions around a shortcut (He et al. 2016, the basic block)."""

    kind: ClassVar[str] = "residual"
    symbol: ClassVar[str] = "C"
    kernel: int = 3
    """Side of both kernels, odd."""
    normalisation: str = "batch"
    """After each convolution: `batch`, `group`, `layer` or `rms`."""
    activation: str = "relu"
    """After the first convolution and after the sum: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Chance that an example skips the convolutions in training."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in."""
        return as_map(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape."""
        channels, _, _ = as_map(shape, self.kind)
        branch = nn.Sequential(
            same_convolution(channels, channels, self.kernel),
            normalisation(self.normalisation, channels),
            activation(self.activation),
            same_convolution(channels, channels, self.kernel),
            normalisation(self.normalisation, channels),
        )
        return Shortcut(branch, drop_path=self.drop_path, after=activation(self.activation))


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class MBConv:
    """Widen, convolve each channel by itself, narrow again (Sandler et al. 2018).

    With `squeeze`, the wide channels are re-weighted by what they hold on average (Hu et al. 2018).
    """

    kind: ClassVar[str] = "mbconv"
    symbol: ClassVar[str] = "M"
    kernel: int = 3
    """Side of the depthwise kernel, odd."""
    expansion: int = 4
    """How many times wider the inside is."""
    squeeze: bool = False
    """Whether channels are re-weighted by squeeze and excitation."""
    normalisation: str = "batch"
    """After each convolution: `batch`, `group`, `layer` or `rms`."""
    activation: str = "relu"
    """After the first two convolutions: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Chance that an example skips the block in training."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in."""
        return as_map(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape."""
        channels, _, _ = as_map(shape, self.kind)
        wide = channels * self.expansion
        branch = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            normalisation(self.normalisation, wide),
            activation(self.activation),
            same_convolution(wide, wide, self.kernel, groups=wide),
            normalisation(self.normalisation, wide),
            activation(self.activation),
            SqueezeExcite(wide) if self.squeeze else nn.Identity(),
            nn.Conv2d(wide, channels, 1, bias=False),
            normalisation(self.normalisation, channels),
        )
        return Shortcut(branch, drop_path=self.drop_path)


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class ConvNeXt:
    """Convolve each channel by itself, normalise once, then mix channels (Liu et al. 2022)."""

    kind: ClassVar[str] = "convnext"
    symbol: ClassVar[str] = "N"
    kernel: int = 7
    """Side of the depthwise kernel, odd."""
    expansion: int = 4
    """How many times wider the inside of the channel mixing is."""
    normalisation: str = "layer"
    """After the depthwise convolution: `batch`, `group`, `layer` or `rms`."""
    activation: str = "gelu"
    """Inside the channel mixing: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Chance that an example skips the block in training."""
    layer_scale: float = added(0.0)
    """How much of the branch counts at the start, learned from there on; 0 leaves it whole."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in."""
        return as_map(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape."""
        channels, _, _ = as_map(shape, self.kind)
        wide = channels * self.expansion
        branch = nn.Sequential(
            same_convolution(channels, channels, self.kernel, groups=channels, bias=True),
            normalisation(self.normalisation, channels),
            nn.Conv2d(channels, wide, 1),
            activation(self.activation),
            nn.Conv2d(wide, channels, 1),
        )
        if self.layer_scale:
            branch.append(layer_scale(self.layer_scale, channels, 1, 1))
        return Shortcut(branch, drop_path=self.drop_path)


class Shortcut(nn.Module):
    """A branch added to what goes into it."""

    def __init__(
        self, branch: nn.Module, *, drop_path: float, after: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.branch = branch
        self.drop = DropPath(drop_path)
        self.after = nn.Identity() if after is None else after

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The sum of input and branch, activated."""
        y_BCHW: Tensor = self.after(x_BCHW + self.drop(self.branch(x_BCHW)))
        return y_BCHW


class SqueezeExcite(nn.Module):
    """Scales each channel by a number between 0 and 1, computed from all channels' averages."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(8, channels // 16)
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, channels, 1), nn.Sigmoid()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The map, its channels scaled."""
        scale_BC11: Tensor = self.weigh(x_BCHW.mean((2, 3), keepdim=True))
        return x_BCHW * scale_BC11


def same_convolution(
    channels: int, width: int, kernel: int, *, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution that keeps height and width.

    Raises:
        UnbuildableError: The kernel is even, so that no padding keeps them.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise UnbuildableError(f"kernel must be odd, not {kernel}")
    return nn.Conv2d(channels, width, kernel, padding=kernel // 2, groups=groups, bias=bias)
