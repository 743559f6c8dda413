"""Self-attention over the positions of a map: every place looks at every other."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import UnbuildableError, as_map, register_block
from search_spaces.blocks.drop_path import DropPath
from search_spaces.blocks.normalisation import activation
from search_spaces.task import Shape

# B batch, C channels, H height, W width, N = H*W tokens, E = C / heads


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """A Transformer encoder layer over a map's positions (Vaswani et al. 2017; normalised before).

    Each layer learns where its tokens lie, so that it can stand anywhere between convolutions.
    """

    kind: ClassVar[str] = "attention"
    symbol: ClassVar[str] = "T"
    heads: int = 4
    """In how many parts the channels look around independently; divides them."""
    mlp_ratio: float = 2.0
    """How many times wider the inside of the token-wise network is."""
    activation: str = "gelu"
    """Inside the token-wise network: `relu`, `gelu` or `silu`."""
    drop_path: float = 0.0
    """Chance that an example skips attention, and again that it skips the token-wise network."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in.

        Raises:
            UnbuildableError: The heads do not divide the channels.
        """
        channels, height, width = as_map(shape, self.kind)
        if self.heads < 1 or channels % self.heads:
            raise UnbuildableError(f"heads must divide {channels} channels, not {self.heads}")
        return channels, height, width

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape."""
        channels, height, width = as_map(self.out_shape(shape), self.kind)
        return EncoderLayer(self, channels, height * width)


class EncoderLayer(nn.Module):
    """Attention, then a token-wise network, each added to its input."""

    def __init__(self, spec: Attention, channels: int, num_tokens: int) -> None:
        super().__init__()
        self.position_NC = nn.Parameter(torch.empty(num_tokens, channels))
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = SelfAttention(channels, spec.heads)
        self.mlp_norm = nn.LayerNorm(channels)
        wide = max(1, round(channels * spec.mlp_ratio))
        self.mlp = nn.Sequential(
            nn.Linear(channels, wide), activation(spec.activation), nn.Linear(wide, channels)
        )
        self.drop = DropPath(spec.drop_path)
        self.start()

    def start(self) -> None:
        """Positions start near zero: the layer first learns what, then where."""
        nn.init.trunc_normal_(self.position_NC, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The map, every position informed by all others."""
        # In channels-last memory both reshapes are views.
        tokens_BNC = x_BCHW.flatten(2).transpose(1, 2)
        normed_BNC = self.attention_norm(tokens_BNC) + self.position_NC
        tokens_BNC = tokens_BNC + self.drop(self.attention(normed_BNC))
        tokens_BNC = tokens_BNC + self.drop(self.mlp(self.mlp_norm(tokens_BNC)))
        y_BCHW: Tensor = tokens_BNC.transpose(1, 2).reshape(x_BCHW.shape)
        return y_BCHW


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention of tokens among themselves."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """The tokens, each a mix of what all tokens say, shape (B, N, C)."""
        heads_BNHE = self.qkv(tokens_BNC).unflatten(2, (3, self.heads, -1))
        query_BHNE, key_BHNE, value_BHNE = heads_BNHE.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BHNE = functional.scaled_dot_product_attention(query_BHNE, key_BHNE, value_BHNE)
        y_BNC: Tensor = self.out(mixed_BHNE.transpose(1, 2).flatten(2))
        return y_BNC
