"""Positional encodings of attention: learned, by distance, or rotary."""

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import UnbuildableError

# B batch, H heads, N tokens, K keys, C channels, E channels of a head, P = E/2 pairs of channels,
# D distances

POSITIONS = ("learned", "none", "relative", "rotary", "sinusoidal")
"""Learned embedding added to the tokens; nothing; bias by distance; rotary queries and keys; score
of query and distance."""
SLOWEST = 10_000.0
"""Ratio of the rotation speeds of the first and last pair of channels (Su et al. 2021)."""


class RelativeBias(nn.Module):
    """Learned bias per head and distance, added to the attention scores (Liu et al. 2021)."""

    index_NN: Tensor

    def __init__(self, heads: int, height: int, width: int) -> None:
        super().__init__()
        self.table_HD = nn.Parameter(torch.empty(heads, (2 * height - 1) * (2 * width - 1)))
        rows_N = torch.arange(height).repeat_interleave(width)
        columns_N = torch.arange(width).repeat(height)
        down_NN = rows_N[:, None] - rows_N[None, :] + height - 1
        right_NN = columns_N[:, None] - columns_N[None, :] + width - 1
        self.register_buffer("index_NN", down_NN * (2 * width - 1) + right_NN, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start near zero, so that all distances count equally at first."""
        nn.init.trunc_normal_(self.table_HD, std=0.02)

    def forward(self) -> Tensor:
        """Return the bias for the scores, shape (H, N, N)."""
        return self.table_HD[:, self.index_NN]


class Rotary(nn.Module):
    """Rotary position embedding: rotates pairs of channels by the position (Su et al. 2021).

    The product of a rotated query and a rotated key depends on their distance only. On a map, half
    of the pairs rotate with the row and half with the column.
    """

    cosine_NP: Tensor
    sine_NP: Tensor

    def __init__(self, width_of_head: int, height: int, width: int) -> None:
        super().__init__()
        axes = 1 if height == 1 else 2
        if width_of_head % (2 * axes):
            raise UnbuildableError(
                f"rotary positions need a multiple of {2 * axes} channels a head, "
                f"not {width_of_head}"
            )
        pairs = width_of_head // (2 * axes)
        speeds_P = SLOWEST ** -(torch.arange(pairs) / pairs)
        places = [torch.arange(width).repeat(height), torch.arange(height).repeat_interleave(width)]
        angles_NP = torch.cat([place_N[:, None] * speeds_P for place_N in places[:axes]], dim=1)
        self.register_buffer("cosine_NP", angles_NP.cos(), persistent=False)
        self.register_buffer("sine_NP", angles_NP.sin(), persistent=False)

    def forward(self, heads_BHNE: Tensor) -> Tensor:
        """Return the rotated queries or keys; their norms are unchanged."""
        first_BHNP, second_BHNP = heads_BHNE.chunk(2, dim=-1)
        return torch.cat(
            [
                first_BHNP * self.cosine_NP - second_BHNP * self.sine_NP,
                first_BHNP * self.sine_NP + second_BHNP * self.cosine_NP,
            ],
            dim=-1,
        )


class SinusoidalDistance(nn.Module):
    """Adds a score of query and distance to the attention scores (Dai et al. 2019).

    The distance is encoded by sinusoids and mapped linearly; two learned vectors per head replace
    the query where only the key, or only the distance, counts.
    """

    table_DC: Tensor
    index_NK: Tensor

    def __init__(
        self, channels: int, heads: int, distance_NK: Tensor, *, nearest: int, farthest: int
    ) -> None:
        super().__init__()
        self.project = nn.Linear(channels, channels, bias=False)
        self.to_key_H1E = nn.Parameter(torch.empty(heads, 1, channels // heads))
        self.to_distance_H1E = nn.Parameter(torch.empty(heads, 1, channels // heads))
        places_D = torch.arange(nearest, farthest + 1)
        speeds_P = SLOWEST ** -(torch.arange((channels + 1) // 2) * 2 / channels)
        angles_DP = places_D[:, None] * speeds_P
        table_DC = torch.cat([angles_DP.sin(), angles_DP.cos()], dim=1)[:, :channels]
        self.register_buffer("table_DC", table_DC, persistent=False)
        self.register_buffer("index_NK", distance_NK - nearest, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start near zero, so that only the content of the keys counts at first."""
        nn.init.trunc_normal_(self.to_key_H1E, std=0.02)
        nn.init.trunc_normal_(self.to_distance_H1E, std=0.02)

    def forward(self, query_BHNE: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the queries for the keys, and the bias of the scaled scores, shape (B, H, N, K).

        Args:
            query_BHNE: The queries.
            mask: Visible keys as a boolean mask, or another bias; None for neither.
        """
        batch, heads, length, width = query_BHNE.shape
        distance_HED = self.project(self.table_DC).unflatten(1, (heads, width)).permute(1, 2, 0)
        score_BHND = (query_BHNE + self.to_distance_H1E) @ distance_HED / width**0.5
        index = self.index_NK.expand(batch, heads, length, -1)
        score_BHNK = score_BHND.gather(3, index)
        if mask is not None and mask.dtype == torch.bool:
            score_BHNK = torch.where(mask, score_BHNK, float("-inf"))
        elif mask is not None:
            score_BHNK = score_BHNK + mask
        return query_BHNE + self.to_key_H1E, score_BHNK
