"""How resolution falls along a network: the rules that blocks follow and diagrams repeat.

Small images must pass the same networks as large ones, so a map that is already small stays as it
is instead of making the network unbuildable. Pure arithmetic: loads no torch.
"""

MIN_RESOLUTION = 5
"""Maps with a side below this stay as they are: what is halved leaves at least 3 by 3."""


def halved(height: int, width: int) -> tuple[int, int]:
    """Height and width after a reduction, halves rounded up; a small map stays as it is."""
    if min(height, width) < MIN_RESOLUTION:
        return height, width
    return -(-height // 2), -(-width // 2)


def patch_side(patch: int, height: int, width: int) -> int:
    """The side of a patch; smaller where the image would be cut in fewer than 4 by 4."""
    return max(1, min(patch, height // 4, width // 4))
