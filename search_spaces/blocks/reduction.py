"""Downsampling of maps and sequences."""

from torch import nn

from search_spaces.blocks.block import UnbuildableError, as_tokens, check_name
from search_spaces.resolution import halved
from search_spaces.task import Shape

REDUCTIONS = ("none", "stride", "pool", "tokens", "patch", "block")
"""`none` keeps the size, `stride` uses a strided convolution, `pool` max-pools after it.

Two for networks of tokens: `tokens` convolves as `stride` does and normalizes, without activation
(Wu et al. 2021, CvT); `patch` normalizes, then merges 2 by 2 positions (Liu et al. 2022, ConvNeXt).
With `block` the first block itself changes width and resolution (Dai et al. 2021, CoAtNet).
"""


def reduced(name: str, height: int, width: int) -> tuple[int, int]:
    """Return height and width after the reduction, halves rounded up.

    Raises:
        UnbuildableError: No reduction has this name.
    """
    check_name("reduction", name, REDUCTIONS)
    return (height, width) if name == "none" else halved(height, width)


def reducing_convolution(
    name: str, shape: Shape, width: int, kernel: int, *, bias: bool = False
) -> nn.Module:
    """Return a convolution to `width` channels that also downsamples; a sequence is one row.

    A sequence of one step gets a kernel of 1, since it has no neighbors.

    Raises:
        UnbuildableError: The reduction is unknown, the input is neither map nor sequence, the width
            is below 1, or the kernel is even.
    """
    channels, height, columns = as_tokens(shape, "convolution")
    if kernel < 1 or kernel % 2 == 0:
        raise UnbuildableError(f"kernel must be odd, not {kernel}")
    if width < 1:
        raise UnbuildableError(f"width must be at least 1, not {width}")
    # A sequence is a map of one row: only its columns are convolved and halved.
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
    """Return a convolution to `width` channels that merges 2 by 2 positions of a map, or 2 steps.

    Raises:
        UnbuildableError: The input is neither map nor sequence, or the width is below 1.
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
