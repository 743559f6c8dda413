"""How attention learns where its tokens lie: by their distance, or by turning them."""

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import UnbuildableError

# B batch, H heads, N tokens, E channels of a head, P = E/2 pairs of channels

POSITIONS = ("learned", "none", "relative", "rotary")
"""An embedding added to the tokens; nothing; a bias by distance; queries and keys turned."""
SLOWEST = 10_000.0
"""How many times slower the last pair of channels turns than the first (Su et al. 2021)."""


class RelativeBias(nn.Module):
    """A learned number per head and distance, added to attention's scores (Liu et al. 2021)."""

    index_NN: Tensor

    def __init__(self, heads: int, height: int, width: int) -> None:
        super().__init__()
        self.table_HD = nn.Parameter(torch.empty(heads, (2 * height - 1) * (2 * width - 1)))
        rows_N = torch.arange(height).repeat_interleave(width)
        columns_N = torch.arange(width).repeat(height)
        down_NN = rows_N[:, None] - rows_N[None, :] + height - 1
        right_NN = columns_N[:, None] - columns_N[None, :] + width - 1
        self.register_buffer("index_NN", down_NN * (2 * width - 1) + right_NN, persistent=False)
        self.start()

    def start(self) -> None:
        """Begin near zero: at first every distance counts alike."""
        nn.init.trunc_normal_(self.table_HD, std=0.02)

    def forward(self) -> Tensor:
        """What to add to the scores, shape (H, N, N)."""
        return self.table_HD[:, self.index_NN]


class Rotary(nn.Module):
    """Turns pairs of channels by an angle that grows with the token's place (Su et al. 2021).

    The product of a turned query and a turned key depends on their distance alone. Of a map, half
    of the pairs turn with the row and half with the column.
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
        """Queries or keys, turned; their lengths stay."""
        first_BHNP, second_BHNP = heads_BHNE.chunk(2, dim=-1)
        return torch.cat(
            [
                first_BHNP * self.cosine_NP - second_BHNP * self.sine_NP,
                first_BHNP * self.sine_NP + second_BHNP * self.cosine_NP,
            ],
            dim=-1,
        )
