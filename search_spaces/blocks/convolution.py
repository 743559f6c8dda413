"""Convolution blocks that preserve the shape of a map: residual, MBConv and ConvNeXt."""

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
    """Two convolutions with a residual connection (the basic block of He et al. 2016)."""

    kind: ClassVar[str] = "residual"
    symbol: ClassVar[str] = "C"
    kernel: int = 3
    """Kernel size of both convolutions, odd."""
    normalisation: str = "batch"
    """Normalization after each convolution: `batch`, `group`, `layer` or `rms`."""
    activation: str = "relu"
    """Activation after the first convolution and after the sum: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Stochastic-depth rate: probability of skipping the block during training."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        return as_map(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for maps of this shape."""
        return self.downsample(shape, self.out_shape(shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """Return the module that also changes width and resolution; the shortcut uses pooling."""
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
    """Inverted bottleneck: expand, depthwise convolution, project (Sandler et al. 2018).

    With `squeeze`, squeeze and excitation rescales the expanded channels (Hu et al. 2018).
    """

    kind: ClassVar[str] = "mbconv"
    symbol: ClassVar[str] = "M"
    kernel: int = 3
    """Kernel size of the depthwise convolution, odd."""
    expansion: int = 4
    """Expansion ratio."""
    squeeze: bool = False
    """Add squeeze and excitation."""
    normalisation: str = "batch"
    """Normalization after each convolution: `batch`, `group`, `layer` or `rms`."""
    activation: str = "relu"
    """Activation after the first two convolutions: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Stochastic-depth rate: probability of skipping the block during training."""
    halving: str = added("depthwise")
    """Convolution with the stride where the block halves the map: `depthwise` (Tu et al. 2022,
    MaxViT) or `first` (Dai et al. 2021, CoAtNet)."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        check_name("halving", self.halving, ("depthwise", "first"))
        return as_map(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for maps of this shape."""
        return self.downsample(shape, self.out_shape(shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """Return the module that also changes width and resolution; the shortcut uses pooling."""
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
    """Depthwise convolution, normalization, then an MLP over channels (Liu et al. 2022)."""

    kind: ClassVar[str] = "convnext"
    symbol: ClassVar[str] = "N"
    kernel: int = 7
    """Kernel size of the depthwise convolution, odd."""
    expansion: int = 4
    """Expansion ratio of the MLP."""
    normalisation: str = "layer"
    """Normalization after the depthwise convolution: `batch`, `group`, `layer` or `rms`."""
    activation: str = "gelu"
    """Activation of the MLP: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Stochastic-depth rate: probability of skipping the block during training."""
    layer_scale: float = added(0.0)
    """Initial value of a learned scale per channel of the branch; 0 omits the scale."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        return as_map(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for maps of this shape."""
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
    """Adds a branch to its input."""

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
        """Return the activated sum of input and branch."""
        y_BCHW: Tensor = self.after(self.skip(x_BCHW) + self.drop(self.branch(x_BCHW)))
        return y_BCHW


class SqueezeExcite(nn.Module):
    """Squeeze and excitation: scales channels by gates computed from all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(8, channels // 16)
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, channels, 1), nn.Sigmoid()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the map with scaled channels."""
        scale_BC11: Tensor = self.weigh(x_BCHW.mean((2, 3), keepdim=True))
        return x_BCHW * scale_BC11


def same_convolution(
    channels: int, width: int, kernel: int, *, groups: int = 1, bias: bool = False, stride: int = 1
) -> nn.Conv2d:
    """Return a convolution that preserves height and width, or halves them with a stride of 2.

    Raises:
        UnbuildableError: The kernel is even, so no symmetric padding preserves them.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise UnbuildableError(f"kernel must be odd, not {kernel}")
    padding = kernel // 2
    return nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=bias)


def step(shape: Shape, target: Shape) -> int:
    """Return the stride from one map size to another: 1, or 2 where it is halved."""
    return 1 if shape[1:] == target[1:] else 2


def pooled_shortcut(shape: Shape, target: Shape) -> nn.Module | None:
    """Return the shortcut to another width and half the size: average pooling, then 1x1 projection.

    None where neither changes.
    """
    layers: list[nn.Module] = []
    if step(shape, target) == 2:
        layers.append(nn.AvgPool2d(2, ceil_mode=True))
    if shape[0] != target[0]:
        layers.append(nn.Conv2d(shape[0], target[0], 1))
    return nn.Sequential(*layers) if layers else None
