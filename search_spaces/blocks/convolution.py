"""Convolution blocks that keep a map's shape: residual, MBConv and ConvNeXt style."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from search_spaces.blocks.block import UnbuildableError, added, as_map, check_name, register_block
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
        return self.downsample(shape, self.out_shape(shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """The module that also changes width and resolution, its shortcut by pooling."""
        channels, width = as_map(shape, self.kind)[0], as_map(target, self.kind)[0]
        branch = nn.Sequential(
            same_convolution(channels, width, self.kernel, stride=step(shape, target)),
            normalisation(self.normalisation, width),
            activation(self.activation),
            same_convolution(width, width, self.kernel),
            normalisation(self.normalisation, width),
        )
        return Shortcut(
            branch,
            drop_path=self.drop_path,
            after=activation(self.activation),
            skip=pooled_shortcut(shape, target),
        )


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
    halving: str = added("depthwise")
    """Which convolution halves the map where the block does: the `depthwise` one (Tu et al. 2022,
    MaxViT) or the `first` (Dai et al. 2021, CoAtNet)."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in."""
        check_name("halving", self.halving, ("depthwise", "first"))
        return as_map(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape."""
        return self.downsample(shape, self.out_shape(shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """The module that also changes width and resolution, its shortcut by pooling."""
        channels, width = as_map(shape, self.kind)[0], self.out_shape(target)[0]
        wide = width * self.expansion
        steps = {"depthwise": 1, "first": 1} | {self.halving: step(shape, target)}
        branch = nn.Sequential(
            nn.Conv2d(channels, wide, 1, steps["first"], bias=False),
            normalisation(self.normalisation, wide),
            activation(self.activation),
            same_convolution(wide, wide, self.kernel, groups=wide, stride=steps["depthwise"]),
            normalisation(self.normalisation, wide),
            activation(self.activation),
            SqueezeExcite(wide) if self.squeeze else nn.Identity(),
            nn.Conv2d(wide, width, 1, bias=False),
            normalisation(self.normalisation, width),
        )
        return Shortcut(branch, drop_path=self.drop_path, skip=pooled_shortcut(shape, target))


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
        self,
        branch: nn.Module,
        *,
        drop_path: float,
        after: nn.Module | None = None,
        skip: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.branch = branch
        self.drop = DropPath(drop_path)
        self.after = nn.Identity() if after is None else after
        self.skip = nn.Identity() if skip is None else skip

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The sum of input and branch, activated."""
        y_BCHW: Tensor = self.after(self.skip(x_BCHW) + self.drop(self.branch(x_BCHW)))
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
    channels: int, width: int, kernel: int, *, groups: int = 1, bias: bool = False, stride: int = 1
) -> nn.Conv2d:
    """A convolution that keeps height and width, or halves them with a stride of 2.

    Raises:
        UnbuildableError: The kernel is even, so that no padding keeps them.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise UnbuildableError(f"kernel must be odd, not {kernel}")
    padding = kernel // 2
    return nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=bias)


def step(shape: Shape, target: Shape) -> int:
    """The stride that leads from one map's size to the other's: 1, or 2 where it is halved."""
    return 1 if shape[1:] == target[1:] else 2


def pooled_shortcut(shape: Shape, target: Shape) -> nn.Module | None:
    """What brings a map to another width and half its size: averages, then a linear map.

    None where neither changes.
    """
    layers: list[nn.Module] = []
    if step(shape, target) == 2:
        layers.append(nn.AvgPool2d(2, ceil_mode=True))
    if shape[0] != target[0]:
        layers.append(nn.Conv2d(shape[0], target[0], 1))
    return nn.Sequential(*layers) if layers else None
