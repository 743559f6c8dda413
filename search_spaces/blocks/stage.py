"""A stage: a change of width and resolution, then one block repeated."""

from dataclasses import dataclass

from torch import Tensor, nn

from search_spaces.blocks.block import Block, DownsamplingBlock, UnbuildableError, as_tokens
from search_spaces.blocks.normalisation import activation, normalisation
from search_spaces.blocks.reduction import merging_convolution, reduced, reducing_convolution
from search_spaces.task import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A block, repeated at one width and resolution of a map or a sequence."""

    width: int
    """Width of the stage's maps."""
    depth: int
    """Number of repetitions of the block, each with its own weights."""
    block: Block
    """The repeated block."""
    reduction: str = "pool"
    """Downsampling at the start; small maps are not halved.

    `none`, `stride`, `pool`, or for networks of tokens `tokens` or `patch`. With `block` the first
    block downsamples itself, and a sequence keeps its length.
    """
    kernel: int = 3
    """Kernel size of the downsampling, odd."""
    normalisation: str = "batch"
    """Normalization after the downsampling: `batch`, `group`, `layer`, `rms` or `none`."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the stage's last map.

        Raises:
            UnbuildableError: The block cannot take the stage's maps.
        """
        entered = self.downsampled_shape(shape)
        if entered != shape and self.reduction == "block":
            self._entering()
        for _ in range(self.depth):
            entered = self.block.out_shape(entered)
        return entered

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for maps of this shape.

        Raises:
            UnbuildableError: The block cannot take the stage's maps.
        """
        layers: list[nn.Module] = []
        entered = self.downsampled_shape(shape)
        first = entered != shape and self.reduction == "block"
        if entered != shape:
            layers += self._entry(shape)
        for index in range(self.depth):
            if index or not first:
                layers.append(self.block.build(entered))
            entered = self.block.out_shape(entered)
        return nn.Sequential(*layers)

    def _entry(self, shape: Shape) -> list[nn.Module]:
        """Return the layers that change width and resolution."""
        if self.reduction == "block":
            return [self._entering().downsample(shape, self.downsampled_shape(shape))]
        if self.reduction == "patch":
            channels, _, _ = as_tokens(shape, "stage")
            layers = [
                normalisation(self.normalisation, channels),
                merging_convolution(shape, self.width),
            ]
        else:
            layers = [
                reducing_convolution(
                    self.reduction,
                    shape,
                    self.width,
                    self.kernel,
                    bias=self.normalisation == "none",
                ),
                normalisation(self.normalisation, self.width),
            ]
            if self.reduction != "tokens":
                layers.append(activation("relu"))
        return layers if len(shape) == 3 else [SequenceAsMap(*layers)]

    def _entering(self) -> DownsamplingBlock:
        if self.depth and isinstance(self.block, DownsamplingBlock):
            return self.block
        raise UnbuildableError(
            "the reduction 'block' needs a first block that changes the width itself; "
            f"{self.block.kind!r} (depth {self.depth}) does not"
        )

    def downsampled_shape(self, shape: Shape) -> Shape:
        """Return the shape after the change of width and resolution.

        Raises:
            UnbuildableError: The depth is negative, the reduction is unknown, or the input is
                neither map nor sequence.
        """
        if self.depth < 0:
            raise UnbuildableError(f"depth must not be negative, not {self.depth}")
        _, height, width = as_tokens(shape, "stage")
        if len(shape) == 2 and self.reduction == "block":
            return width, self.width
        if len(shape) == 2:
            return reduced(self.reduction, width, width)[0], self.width
        return (self.width, *reduced(self.reduction, height, width))


class SequenceAsMap(nn.Module):
    """Applies modules for maps to a sequence, as a map of one row."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.modules_in_order = nn.Sequential(*modules)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return the output sequence, shape (B, N, C)."""
        y_BC1N: Tensor = self.modules_in_order(x_BNC.transpose(1, 2)[:, :, None])
        return y_BC1N[:, :, 0].transpose(1, 2)
