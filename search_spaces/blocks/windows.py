"""Groups of tokens for local attention: windows, shifted windows, grids."""

import torch
from torch import Tensor, nn
from torch.nn import functional

# B batch, C channels, H height, W width, G groups, N tokens of a group

SCOPES = ("all", "window", "shifted", "grid")
"""All tokens; windows (Liu et al. 2021); windows shifted by half a side; a grid of tokens spread
evenly over the map (Tu et al. 2022)."""


class Groups(nn.Module):
    """Partitions a map into groups of `sides` tokens, and merges them again.

    A map that the groups do not fill is padded. `mask_GNN` has the tokens that may attend to each
    other: none attends to padding or, with shifted windows, across the edge of the map.
    """

    mask_GNN: Tensor | None

    def __init__(self, scope: str, window: int, height: int, width: int) -> None:
        super().__init__()
        self.scope = scope
        self.size = height, width
        self.sides = min(window, height), min(window, width)
        """Height and width of a group: those of the window, or of the map where it is smaller."""
        self.counts = tuple(
            -(-size // side) for size, side in zip(self.size, self.sides, strict=True)
        )
        # A window that covers the map has no neighbor to shift into.
        self.shifts = tuple(
            side // 2 if scope == "shifted" and count > 1 else 0
            for side, count in zip(self.sides, self.counts, strict=True)
        )
        self.register_buffer("mask_GNN", self._mask(), persistent=False)

    def cut(self, x_BHWC: Tensor) -> Tensor:
        """Return the tokens by group, shape (B * G, N, C)."""
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
        """Return the map from its groups, shape (B, H, W, C)."""
        (high, wide), (down, right) = self.sides, self.counts
        parted = tokens_GNC.reshape(-1, down, right, high, wide, tokens_GNC.shape[2])
        order = (0, 3, 1, 4, 2, 5) if self.scope == "grid" else (0, 1, 3, 2, 4, 5)
        parted = parted.permute(*order)
        x_BHWC = parted.reshape(-1, high * down, wide * right, tokens_GNC.shape[2])
        if any(self.shifts):
            x_BHWC = x_BHWC.roll(self.shifts, dims=(1, 2))
        return x_BHWC[:, : self.size[0], : self.size[1]]

    def _mask(self) -> Tensor | None:
        """Return the mask of visible tokens; None where all of a group are visible."""
        whole = all(
            side * count == size
            for side, count, size in zip(self.sides, self.counts, self.size, strict=True)
        )
        if whole and not any(self.shifts):
            return None
        # Tokens attend within their region: padding is one, and so are the rows and columns that
        # the shift rolls over the edge.
        rows_H, columns_W = (
            (torch.arange(size) < shift).int() + 1
            for size, shift in zip(self.size, self.shifts, strict=True)
        )
        region_HW = rows_H[:, None] + 2 * columns_W[None, :]
        region_GN = self.cut(region_HW[None, :, :, None]).squeeze(2)
        return region_GN[:, :, None] == region_GN[:, None, :]
