"""Halving a map: how the network trades resolution for width, and where it stops.

Small images must pass the same networks as large ones, so a map that is already small stays as it
is instead of making the network unbuildable.
"""

from torch import nn

from search_spaces.blocks.block import UnbuildableError, as_map, check_name
from search_spaces.task import Shape

REDUCTIONS = ("none", "stride", "pool")
"""Keep the size; let the convolution take every other place; or convolve, then keep the maxima."""
SMALLEST = 5
"""Maps with a side below this stay as they are: what is halved leaves at least 3 by 3."""


def reduced(name: str, height: int, width: int) -> tuple[int, int]:
    """Height and width after the reduction, halves rounded up.

    Raises:
        UnbuildableError: No reduction has this name.
    """
    check_name("reduction", name, REDUCTIONS)
    if name == "none" or min(height, width) < SMALLEST:
        return height, width
    return -(-height // 2), -(-width // 2)


def reducing_convolution(name: str, shape: Shape, width: int, kernel: int) -> nn.Module:
    """A convolution to `width` channels that also reduces the map.

    Raises:
        UnbuildableError: Unknown reduction, no map, no channels, or an even kernel.
    """
    channels, *sides = as_map(shape, "convolution")
    if kernel < 1 or kernel % 2 == 0:
        raise UnbuildableError(f"kernel must be odd, not {kernel}")
    if width < 1:
        raise UnbuildableError(f"width must be at least 1, not {width}")
    halves = reduced(name, *sides) != tuple(sides)
    stride = 2 if halves and name == "stride" else 1
    convolve = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    if halves and name == "pool":
        return nn.Sequential(convolve, nn.MaxPool2d(2, ceil_mode=True))
    return convolve
