"""Groups of a map's tokens that attend among themselves: windows, shifted windows, grids."""

import torch
from torch import Tensor, nn
from torch.nn import functional

# B batch, C channels, H height, W width, G groups, N tokens of a group

SCOPES = ("all", "window", "shifted", "grid")
"""Every token; its window (Liu et al. 2021); a window half a side on; tokens spread evenly over the
map in both directions (Tu et al. 2022)."""


class Groups(nn.Module):
    """Cuts a map into groups of `sides` tokens and puts it together again.

    A map that the groups do not fill is padded; `mask_GNN` says which tokens may see each other, so
    that none sees padding, nor, where windows were shifted, what came round from the far edge.
    """

    mask_GNN: Tensor | None

    def __init__(self, scope: str, window: int, height: int, width: int) -> None:
        super().__init__()
        self.scope = scope
        self.size = height, width
        self.sides = min(window, height), min(window, width)
        """Height and width of a group: the window's, or the map's where that is smaller."""
        self.counts = tuple(
            -(-size // side) for size, side in zip(self.size, self.sides, strict=True)
        )
        # One window that covers the map has nothing to be shifted against.
        self.shifts = tuple(
            side // 2 if scope == "shifted" and count > 1 else 0
            for side, count in zip(self.sides, self.counts, strict=True)
        )
        self.register_buffer("mask_GNN", self._mask(), persistent=False)

    def cut(self, x_BHWC: Tensor) -> Tensor:
        """The tokens by group, shape (B * G, N, C)."""
        (high, wide), (down, right) = self.sides, self.counts
        bottom, edge = (
            side * count - size
            for side, count, size in zip(self.sides, self.counts, self.size, strict=True)
        )
        if bottom or edge:
            x_BHWC = functional.pad(x_BHWC, (0, 0, 0, edge, 0, bottom))
        if any(self.shifts):
            x_BHWC = x_BHWC.roll((-self.shifts[0], -self.shifts[1]), dims=(1, 2))
        if self.scope == "grid":
            parted = x_BHWC.reshape(-1, high, down, wide, right, x_BHWC.shape[3])
            parted = parted.permute(0, 2, 4, 1, 3, 5)
        else:
            parted = x_BHWC.reshape(-1, down, high, right, wide, x_BHWC.shape[3])
            parted = parted.permute(0, 1, 3, 2, 4, 5)
        return parted.reshape(-1, high * wide, x_BHWC.shape[3])

    def join(self, tokens_GNC: Tensor) -> Tensor:
        """The map that `cut` was given, shape (B, H, W, C)."""
        (high, wide), (down, right) = self.sides, self.counts
        parted = tokens_GNC.reshape(-1, down, right, high, wide, tokens_GNC.shape[2])
        order = (0, 3, 1, 4, 2, 5) if self.scope == "grid" else (0, 1, 3, 2, 4, 5)
        parted = parted.permute(*order)
        x_BHWC = parted.reshape(-1, high * down, wide * right, tokens_GNC.shape[2])
        if any(self.shifts):
            x_BHWC = x_BHWC.roll(self.shifts, dims=(1, 2))
        return x_BHWC[:, : self.size[0], : self.size[1]]

    def _mask(self) -> Tensor | None:
        """Which tokens may see each other; None where all of a group may."""
        whole = all(
            side * count == size
            for side, count, size in zip(self.sides, self.counts, self.size, strict=True)
        )
        if whole and not any(self.shifts):
            return None
        # Real tokens are told from padding, and what rolls round the edge from what does not;
        # tokens of one region see each other.
        rows_H, columns_W = (
            (torch.arange(size) < shift).int() + 1
            for size, shift in zip(self.size, self.shifts, strict=True)
        )
        region_HW = rows_H[:, None] + 2 * columns_W[None, :]
        region_GN = self.cut(region_HW[None, :, :, None]).squeeze(2)
        return region_GN[:, :, None] == region_GN[:, None, :]
