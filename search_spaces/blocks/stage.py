"""A stage: a change of width and resolution, then one block repeated."""

from dataclasses import dataclass

from torch import nn

from search_spaces.blocks.block import Block, UnbuildableError, as_map
from search_spaces.blocks.normalisation import activation, normalisation
from search_spaces.blocks.reduction import reduced, reducing_convolution
from search_spaces.task import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Blocks of one form at one width and resolution."""

    width: int
    """Channels of the stage's maps."""
    depth: int
    """How often the block is repeated, each time with weights of its own."""
    block: Block
    """What is repeated."""
    reduction: str = "pool"
    """How the map is halved at the start: `none`, `stride` or `pool`; a small map is not halved."""
    kernel: int = 3
    """Side of the kernel that changes width and resolution, odd."""
    normalisation: str = "batch"
    """After the change of width and resolution: `batch`, `group` or `layer`."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape of the stage's last map.

        Raises:
            UnbuildableError: The block cannot take the stage's maps.
        """
        shape = self._entered(shape)
        for _ in range(self.depth):
            shape = self.block.out_shape(shape)
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape.

        Raises:
            UnbuildableError: The block cannot take the stage's maps.
        """
        layers: list[nn.Module] = []
        entered = self._entered(shape)
        if entered != shape:
            layers += [
                reducing_convolution(self.reduction, shape, self.width, self.kernel),
                normalisation(self.normalisation, self.width),
                activation("relu"),
            ]
        for _ in range(self.depth):
            layers.append(self.block.build(entered))
            entered = self.block.out_shape(entered)
        return nn.Sequential(*layers)

    def _entered(self, shape: Shape) -> Shape:
        if self.depth < 0:
            raise UnbuildableError(f"depth must not be negative, not {self.depth}")
        _, height, width = as_map(shape, "stage")
        return (self.width, *reduced(self.reduction, height, width))
