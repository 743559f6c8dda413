"""Blocks that mix channels: an MLP per position, and the convolution module of a Conformer."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import UnbuildableError, as_tokens, register_block
from search_spaces.blocks.convolution import step
from search_spaces.blocks.drop_path import DropPath
from search_spaces.blocks.normalisation import activation, normalisation
from search_spaces.task import Shape

# B batch, C channels, H height, W width, N steps


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """Pre-norm MLP of the channels at each position, with a residual connection.

    Half of a Transformer layer (Vaswani et al. 2017), and the residual block for tables (Gorishniy
    et al. 2021).
    """

    kind: ClassVar[str] = "feed_forward"
    symbol: ClassVar[str] = "F"
    mlp_ratio: float = 2.0
    """MLP expansion ratio."""
    activation: str = "gelu"
    """Activation of the MLP: `relu`, `gelu` or `silu`."""
    normalisation: str = "layer"
    """Normalization before the MLP: `batch`, `group`, `layer`, `rms` or `none`."""
    dropout: float = 0.0
    """Dropout probability inside the MLP."""
    share: float = 1.0
    """Factor of the branch in the sum; a Conformer has two branches with 0.5 each."""
    drop_path: float = 0.0
    """Stochastic-depth rate: probability of skipping the branch during training."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

        Raises:
            UnbuildableError: The input is neither map nor sequence, or a number is out of range.
        """
        as_tokens(shape, self.kind)
        if not 0 <= self.dropout < 1:
            raise UnbuildableError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        if min(self.mlp_ratio, self.share) <= 0:
            raise UnbuildableError("mlp_ratio and share must be above 0")
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for inputs of this shape."""
        return self.downsample(shape, self.out_shape(shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """Return the module that also changes the width; average pooling halves the positions."""
        channels = as_tokens(shape, self.kind)[0]
        width = as_tokens(self.out_shape(target), self.kind)[0]
        wide = max(1, round(width * self.mlp_ratio))
        branch = nn.Sequential(
            normalisation(self.normalisation, channels),
            nn.Conv2d(channels, wide, 1),
            activation(self.activation),
            nn.Dropout(self.dropout),
            nn.Conv2d(wide, width, 1),
        )
        return PointwiseLayer(
            branch,
            share=self.share,
            drop_path=self.drop_path,
            skip=None if channels == width else nn.Conv2d(channels, width, 1),
            halves=len(shape) == 3 and step(shape, target) == 2,
        )


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class ConformerConvolution:
    """Gated linear unit, then a depthwise convolution, with a residual connection.

    The convolution module of a Conformer (Gulati et al. 2020), not causal.
    """

    kind: ClassVar[str] = "conformer_convolution"
    symbol: ClassVar[str] = "L"
    kernel: int = 31
    """Kernel size in steps of a sequence, or per side on a map; odd."""
    normalisation: str = "batch"
    """Normalization after the convolution: `batch`, `group`, `layer`, `rms` or `none`."""
    drop_path: float = 0.0
    """Stochastic-depth rate: probability of skipping the branch during training."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

        Raises:
            UnbuildableError: The input is neither map nor sequence, or the kernel is even.
        """
        as_tokens(shape, self.kind)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UnbuildableError(f"kernel must be odd, not {self.kernel}")
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for inputs of this shape."""
        channels = as_tokens(self.out_shape(shape), self.kind)[0]
        high = self.kernel if len(shape) == 3 else 1
        branch = nn.Sequential(
            normalisation("layer", channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.GLU(dim=1),
            nn.Conv2d(
                channels,
                channels,
                (high, self.kernel),
                padding=(high // 2, self.kernel // 2),
                groups=channels,
                # Batch normalization would cancel a bias.
                bias=self.normalisation != "batch",
            ),
            normalisation(self.normalisation, channels),
            activation("silu"),
            nn.Conv2d(channels, channels, 1),
        )
        return PointwiseLayer(branch, drop_path=self.drop_path)


class PointwiseLayer(nn.Module):
    """Adds a branch for maps to its input, which may be a sequence, as a map of one row."""

    def __init__(
        self,
        branch: nn.Module,
        *,
        share: float = 1.0,
        drop_path: float = 0.0,
        skip: nn.Module | None = None,
        halves: bool = False,
    ) -> None:
        super().__init__()
        self.branch = branch
        self.share = share
        self.drop = DropPath(drop_path)
        self.skip = nn.Identity() if skip is None else skip
        self.halves = halves

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum, a map (B, C, H, W) or sequence (B, N, C)."""
        x_BCHW = x if x.dim() == 4 else x.transpose(1, 2)[:, :, None]
        if self.halves:
            x_BCHW = functional.avg_pool2d(x_BCHW, 2, ceil_mode=True)
        y_BCHW: Tensor = self.skip(x_BCHW) + self.share * self.drop(self.branch(x_BCHW))
        return y_BCHW if x.dim() == 4 else y_BCHW[:, :, 0].transpose(1, 2)
