"""Forms of self-attention: softmax, linear, and with convolutional projections."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.positions import RelativeBias, Rotary, SinusoidalDistance

# B batch, N tokens, M keys, C channels, H heads, E = C / heads; in maps: H height, W width

FORMS = ("softmax", "linear", "convolution")
"""Softmax over all pairs; linear attention; softmax over convolved tokens."""
EPSILON = 1e-6
"""Added to the denominator of linear attention, as in its authors' code."""


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product self-attention."""

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        bias: RelativeBias | None = None,
        rotary: Rotary | None = None,
        distance: SinusoidalDistance | None = None,
        before: int | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels if before is None else before, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = bias
        self.rotary = rotary
        self.distance = distance

    def forward(self, tokens_BNC: Tensor, mask_GNN: Tensor | None = None) -> Tensor:
        """Return the tokens after attention, shape (B, N, C).

        Args:
            tokens_BNC: The tokens.
            mask_GNN: Visible tokens, repeated along the batch; None for all.
        """
        heads_BNHE = self.qkv(tokens_BNC).unflatten(2, (3, self.heads, -1))
        query_BHNE, key_BHNE, value_BHNE = heads_BNHE.permute(2, 0, 3, 1, 4).unbind(0)
        if self.rotary is not None:
            query_BHNE, key_BHNE = self.rotary(query_BHNE), self.rotary(key_BHNE)
        mask_BHNN = self._mask(query_BHNE, mask_GNN)
        if self.distance is not None:
            query_BHNE, mask_BHNN = self.distance(query_BHNE, mask_BHNN)
        mixed_BHNE = functional.scaled_dot_product_attention(
            query_BHNE, key_BHNE, value_BHNE, attn_mask=mask_BHNN
        )
        y_BNC: Tensor = self.out(mixed_BHNE.transpose(1, 2).flatten(2))
        return y_BNC

    def _mask(self, query_BHNE: Tensor, mask_GNN: Tensor | None) -> Tensor | None:
        """Return bias and mask as one tensor that broadcasts to (B, H, N, N)."""
        bias_HNN = None if self.bias is None else self.bias().to(query_BHNE.dtype)
        if mask_GNN is None:
            return bias_HNN
        mask_GHNN = mask_GNN[:, None]
        if bias_HNN is not None:
            mask_GHNN = torch.where(mask_GHNN, bias_HNN, float("-inf"))
        return mask_GHNN.repeat(query_BHNE.shape[0] // mask_GNN.shape[0], 1, 1, 1)


class LinearAttention(nn.Module):
    """Linear attention, with a cost linear in the number of tokens (Katharopoulos et al. 2020).

    Products of elu(x) + 1 replace the softmax, so that keys and values are summed once for all
    queries.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """Return the tokens after attention, shape (B, N, C)."""
        heads_BNHE = self.qkv(tokens_BNC).unflatten(2, (3, self.heads, -1))
        query_BHNE, key_BHNE, value_BHNE = heads_BNHE.permute(2, 0, 3, 1, 4).unbind(0)
        # In float32: in bfloat16 elu(x) + 1 is 0 below -6, and so may be the denominator.
        query_BHNE, key_BHNE = (functional.elu(x.float()) + 1 for x in (query_BHNE, key_BHNE))
        said_BHEE = key_BHNE.transpose(2, 3) @ value_BHNE.to(key_BHNE.dtype)
        weight_BHN1 = (query_BHNE * key_BHNE.sum(2, keepdim=True)).sum(3, keepdim=True)
        mixed_BHNE = query_BHNE @ said_BHEE / (weight_BHN1 + EPSILON)
        y_BNC: Tensor = self.out(mixed_BHNE.transpose(1, 2).flatten(2))
        return y_BNC


class ConvolvedAttention(nn.Module):
    """Softmax attention over a map, with convolutional projections (Wu et al. 2021, CvT).

    A `stride` above 1 reduces the number of keys and values.
    """

    def __init__(self, channels: int, heads: int, height: int, width: int, stride: int) -> None:
        super().__init__()
        self.heads = heads
        self.size = height, width
        self.query = _convolved(channels, 1)
        self.key = _convolved(channels, stride)
        self.value = _convolved(channels, stride)
        self.project = nn.ModuleList([nn.Linear(channels, channels) for _ in range(3)])
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """Return the tokens after attention, shape (B, N, C)."""
        batch, _, channels = tokens_BNC.shape
        x_BCHW = tokens_BNC.transpose(1, 2).reshape(batch, channels, *self.size)
        parts = []
        convolutions = (self.query, self.key, self.value)
        for convolve, project in zip(convolutions, self.project, strict=True):
            part_BMC = project(convolve(x_BCHW).flatten(2).transpose(1, 2))
            parts.append(part_BMC.unflatten(2, (self.heads, -1)).transpose(1, 2))
        query_BHNE, key_BHME, value_BHME = parts
        mixed_BHNE = functional.scaled_dot_product_attention(query_BHNE, key_BHME, value_BHME)
        y_BNC: Tensor = self.out(mixed_BHNE.transpose(1, 2).flatten(2))
        return y_BNC


def _convolved(channels: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    )
