"""Segment memory: attention within a segment of a long sequence and to the segment before."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import UnbuildableError, added, check_name, register_block
from search_spaces.blocks.positions import SinusoidalDistance
from search_spaces.blocks.recurrent import as_sequence
from search_spaces.task import Shape

# B batch, N steps, S steps of a segment, M = 2S distances, C channels, H heads, E = C / heads


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentMemory:
    """Causal Transformer layer over segments that attend to the previous one (Dai et al. 2019).

    As in Transformer-XL, the memory is the input of this layer for the previous segment, without
    gradient, and positions are relative; the cost is linear in the length.
    """

    kind: ClassVar[str] = "segment_memory"
    symbol: ClassVar[str] = "X"
    segment: int = 16
    """Length of a segment, and of the memory, in steps."""
    heads: int = 4
    """Number of attention heads; must divide the channel count."""
    mlp_ratio: float = 2.0
    """MLP expansion ratio."""
    positions: str = added("learned")
    """Relative positions: a `learned` bias per head, or the paper's score of query and `sinusoidal`
    encoding."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

        Raises:
            UnbuildableError: The input is no sequence, or the heads do not divide its channels.
        """
        _, channels = as_sequence(shape, self.kind)
        if self.heads < 1 or channels % self.heads:
            raise UnbuildableError(f"heads must divide {channels} channels, not {self.heads}")
        check_name("positions", self.positions, ("learned", "sinusoidal"))
        if self.segment < 1:
            raise UnbuildableError(f"segment must be at least 1, not {self.segment}")
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for sequences of this shape."""
        length, channels = as_sequence(self.out_shape(shape), self.kind)
        return SegmentLayer(self, channels, min(self.segment, length))


class SegmentLayer(nn.Module):
    """Attention to the token's own segment and the previous one, then an MLP."""

    bias_HM: nn.Parameter | None
    distance_S2S: Tensor
    seen_S2S: Tensor

    def __init__(self, spec: SegmentMemory, channels: int, segment: int) -> None:
        super().__init__()
        self.heads = spec.heads
        self.segment = segment
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        back_S2S = torch.arange(segment)[:, None] + segment - torch.arange(2 * segment)[None, :]
        self.bias_HM, self.distance = None, None
        if spec.positions == "learned":
            self.bias_HM = nn.Parameter(torch.empty(spec.heads, 2 * segment))
        else:
            self.distance = SinusoidalDistance(
                channels, spec.heads, back_S2S.clamp(min=0), nearest=0, farthest=2 * segment - 1
            )
        self.mlp_norm = nn.LayerNorm(channels)
        wide = max(1, round(channels * spec.mlp_ratio))
        self.mlp = nn.Sequential(nn.Linear(channels, wide), nn.GELU(), nn.Linear(wide, channels))
        self.register_buffer("distance_S2S", back_S2S.clamp(min=0), persistent=False)
        self.register_buffer("seen_S2S", back_S2S >= 0, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start near zero, so that all distances count equally at first."""
        if self.bias_HM is not None:
            nn.init.trunc_normal_(self.bias_HM, std=0.02)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return the sequence, where a step depends on earlier ones in two segments."""
        batch, length, channels = x_BNC.shape
        missing = -length % self.segment
        padded_BNC = functional.pad(x_BNC, (0, 0, 0, missing))
        now = padded_BNC.reshape(batch, -1, self.segment, channels)
        # The first segment has no memory: the mask excludes it.
        before = functional.pad(now[:, :-1].detach(), (0, 0, 0, 0, 1, 0))
        recalled = self.norm(torch.cat([before, now], dim=2)).flatten(0, 1)
        attended = self._attend(recalled, now.shape[1])
        y_BNC: Tensor = padded_BNC + attended.reshape(padded_BNC.shape)
        y_BNC = y_BNC + self.mlp(self.mlp_norm(y_BNC))
        return y_BNC[:, :length]

    def _attend(self, recalled: Tensor, num_segments: int) -> Tensor:
        """Return the attention output for the second half of each row of two segments."""
        query = self.query(recalled[:, self.segment :]).unflatten(2, (self.heads, -1))
        query = query.transpose(1, 2)
        both = self.key_value(recalled).unflatten(2, (2, self.heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4).unbind(0)
        seen = self.seen_S2S.expand(num_segments, -1, -1).clone()
        seen[0, :, : self.segment] = False
        seen = seen[:, None]
        if self.bias_HM is not None:
            bias_HS2S = self.bias_HM[:, self.distance_S2S].to(query.dtype)
            seen = torch.where(seen, bias_HS2S, float("-inf"))
        mask = seen.repeat(len(recalled) // num_segments, 1, 1, 1)
        if self.distance is not None:
            query, mask = self.distance(query, mask)
        heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        answer: Tensor = self.out(heard.transpose(1, 2).flatten(2))
        return answer
