"""Rules for the resolution of feature maps, for blocks and for diagrams.

Small images must fit the same networks as large ones, so a map that is already small is not halved
instead of making the network unbuildable. Pure arithmetic: does not load torch.
"""

MIN_RESOLUTION = 5
"""Maps with a smaller side are not halved: halved maps have at least 3 by 3 positions."""


def halved(height: int, width: int) -> tuple[int, int]:
    """Return height and width after a reduction, halves rounded up; small maps are unchanged."""
    if min(height, width) < MIN_RESOLUTION:
        return height, width
    return -(-height // 2), -(-width // 2)


def patch_side(patch: int, height: int, width: int) -> int:
    """Return the side of a patch, reduced where the image has fewer than 4 by 4 patches."""
    return max(1, min(patch, height // 4, width // 4))
