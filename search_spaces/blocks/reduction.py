"""Halving a map: how the network trades resolution for width."""

from torch import nn

from search_spaces.blocks.block import UnbuildableError, as_tokens, check_name
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
    """A convolution to `width` channels that also reduces the map; a sequence as one row.

    Raises:
        UnbuildableError: Unknown reduction, no map or sequence, no channels, or an even kernel.
    """
    channels, height, columns = as_tokens(shape, "convolution")
    if kernel < 1 or kernel % 2 == 0:
        raise UnbuildableError(f"kernel must be odd, not {kernel}")
    if width < 1:
        raise UnbuildableError(f"width must be at least 1, not {width}")
    # Of a sequence, which is a map of one row, only the columns are convolved and halved.
    in_rows = len(shape) == 3
    sides = (height if in_rows else columns, columns)
    halves = reduced(name, *sides) != sides
    step = 2 if halves and name == "stride" else 1
    convolve = nn.Conv2d(
        channels,
        width,
        (kernel if in_rows else 1, kernel),
        (step if in_rows else 1, step),
        padding=(kernel // 2 if in_rows else 0, kernel // 2),
        bias=False,
    )
    if halves and name == "pool":
        return nn.Sequential(convolve, nn.MaxPool2d((2 if in_rows else 1, 2), ceil_mode=True))
    return convolve
