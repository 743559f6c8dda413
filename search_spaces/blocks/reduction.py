"""Halving a map: how the network trades resolution for width."""

from torch import nn

from search_spaces.blocks.block import UnbuildableError, as_tokens, check_name
from search_spaces.resolution import halved
from search_spaces.task import Shape

REDUCTIONS = ("none", "stride", "pool", "tokens", "patch", "block")
"""Keep the size; let the convolution take every other place; convolve, then keep the maxima.

The next two serve networks of tokens: convolve as `stride` does and normalise, without activation
(Wu et al. 2021, CvT); or normalise, then merge 2 by 2 places (Liu et al. 2022, ConvNeXt). Last: the
first block itself changes width and resolution (Dai et al. 2021, CoAtNet).
"""


def reduced(name: str, height: int, width: int) -> tuple[int, int]:
    """Height and width after the reduction, halves rounded up.

    Raises:
        UnbuildableError: No reduction has this name.
    """
    check_name("reduction", name, REDUCTIONS)
    return (height, width) if name == "none" else halved(height, width)


def reducing_convolution(
    name: str, shape: Shape, width: int, kernel: int, *, bias: bool = False
) -> nn.Module:
    """A convolution to `width` channels that also reduces the map; a sequence as one row.

    Of a single step its neighbours are never there: it gets a kernel of 1.

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
    kernel = kernel if in_rows or columns > 1 else 1
    sides = (height if in_rows else columns, columns)
    halves = reduced(name, *sides) != sides
    step = 2 if halves and name in ("stride", "tokens") else 1
    convolve = nn.Conv2d(
        channels,
        width,
        (kernel if in_rows else 1, kernel),
        (step if in_rows else 1, step),
        padding=(kernel // 2 if in_rows else 0, kernel // 2),
        bias=bias or name == "tokens",
    )
    if halves and name == "pool":
        return nn.Sequential(convolve, nn.MaxPool2d((2 if in_rows else 1, 2), ceil_mode=True))
    return convolve


def merging_convolution(shape: Shape, width: int) -> nn.Module:
    """A convolution to `width` channels that merges 2 by 2 places of a map, or 2 steps.

    Raises:
        UnbuildableError: No map or sequence, or no channels.
    """
    channels, height, columns = as_tokens(shape, "convolution")
    if width < 1:
        raise UnbuildableError(f"width must be at least 1, not {width}")
    in_rows = len(shape) == 3
    sides = (height if in_rows else columns, columns)
    side = 2 if halved(*sides) != sides else 1
    kernel = (side if in_rows else 1, side)
    merge = nn.Conv2d(channels, width, kernel, kernel)
    missing = (-columns % kernel[1], -height % kernel[0])
    if any(missing):
        return nn.Sequential(nn.ZeroPad2d((0, missing[0], 0, missing[1])), merge)
    return merge
