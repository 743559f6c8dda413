"""Halving a map: how the network trades resolution for width."""

from torch import nn

from search_spaces.blocks.block import UnbuildableError, as_map, check_name
from search_spaces.resolution import halved
from search_spaces.task import Shape

REDUCTIONS = ("none", "stride", "pool")
"""Keep the size; let the convolution take every other place; or convolve, then keep the maxima."""


def reduced(name: str, height: int, width: int) -> tuple[int, int]:
    """Height and width after the reduction, halves rounded up.

    Raises:
        UnbuildableError: No reduction has this name.
    """
    check_name("reduction", name, REDUCTIONS)
    return (height, width) if name == "none" else halved(height, width)


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
