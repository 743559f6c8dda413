"""The dynamic gate: convolution and attention side by side, the lead shifted by what they see."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import Block, UnbuildableError, as_map, register_block
from search_spaces.task import Shape

# B batch, C channels, H height, W width


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Two branches of one map, mixed channel by channel with weights computed from both.

    The branch for texture and the branch for layout each see the whole input; per input and
    channel, a number g between 0 and 1 says how much convolution leads: g * convolution +
    (1 - g) * attention.
    """

    kind: ClassVar[str] = "gate"
    convolution: Block
    """The branch for texture; keeps the shape."""
    attention: Block
    """The branch for layout; keeps the shape."""

    @property
    def symbol(self) -> str:
        """Both branches' letters."""
        branches = (self.convolution, self.attention)
        return "".join(str(getattr(branch, "symbol", branch.kind)) for branch in branches)

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in.

        Raises:
            UnbuildableError: A branch changes the shape or cannot take it.
        """
        shape = as_map(shape, self.kind)
        for branch in (self.convolution, self.attention):
            if (given := branch.out_shape(shape)) != shape:
                raise UnbuildableError(
                    f"gate: the branch {branch.kind!r} must keep {shape}, not make {given}"
                )
        return shape

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape."""
        shape = self.out_shape(shape)
        return GatedMix(self.convolution.build(shape), self.attention.build(shape), shape[0])


class GatedMix(nn.Module):
    """Both branches and the gate between them; remembers how it last stood."""

    last_gate_BC: Tensor | None
    """How much the convolution led in the last forward pass, per example and channel."""

    def __init__(self, convolution: nn.Module, attention: nn.Module, channels: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.attention = attention
        narrow = max(8, channels // 4)
        self.squeeze = nn.Linear(2 * channels, narrow)
        self.decide = nn.Linear(narrow, channels)
        self.last_gate_BC = None

    def start(self) -> None:
        """Begin near an even mix: neither branch may starve before it has learned anything."""
        nn.init.trunc_normal_(self.decide.weight, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The convex mix of both branches, per example and channel."""
        texture_BCHW = self.convolution(x_BCHW)
        layout_BCHW = self.attention(x_BCHW)
        pooled_BC2 = torch.cat([texture_BCHW.mean((2, 3)), layout_BCHW.mean((2, 3))], dim=1)
        gate_BC = torch.sigmoid(self.decide(torch.relu(self.squeeze(pooled_BC2))))
        self.last_gate_BC = gate_BC.detach()
        return torch.lerp(layout_BCHW, texture_BCHW, gate_BC[:, :, None, None])


def gate_values(network: nn.Module) -> dict[str, Tensor]:
    """How far the convolution led in each gate in the last forward pass.

    Returns:
        By the module's name in the network, a tensor of shape (B, C) of numbers between 0
        (attention alone) and 1 (convolution alone). Gates that have not run are left out.
    """
    return {
        name: module.last_gate_BC
        for name, module in network.named_modules()
        if isinstance(module, GatedMix) and module.last_gate_BC is not None
    }
