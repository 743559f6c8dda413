"""The dynamic gate: convolution and attention side by side, the lead shifted by what they see."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.block import (
    Block,
    added,
    as_tokens,
    check_name,
    keeping,
    register_block,
    symbols,
)
from search_spaces.task import Shape

# B batch, C channels, H height, W width, N = H*W tokens, G numbers of a gate

DETAILS = ("channel", "scalar", "token")
"""A number for each channel; one for the whole map; one for each place."""


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Two branches of one map or sequence, mixed with weights computed from both.

    The branch for texture and the branch for layout each see the whole input; per input and
    channel (or per input alone, or per place), a number g between 0 and 1 says how much
    convolution leads: g * convolution + (1 - g) * attention.
    """

    kind: ClassVar[str] = "gate"
    convolution: Block
    """The branch for texture; keeps the shape."""
    attention: Block
    """The branch for layout; keeps the shape."""
    detail: str = added("channel")
    """What has a g of its own: each `channel`, the map as a whole (`scalar`), or each `token`."""
    hard: bool = added(False)
    """Whether g is rounded to 0 or 1, its gradient taken as if it were not (Bengio et al. 2013)."""

    @property
    def symbol(self) -> str:
        """Both branches' letters."""
        return symbols((self.convolution, self.attention))

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in.

        Raises:
            UnbuildableError: A branch changes the shape or cannot take it.
        """
        as_tokens(shape, self.kind)
        check_name("detail", self.detail, DETAILS)
        return keeping(self.kind, (self.convolution, self.attention), shape)

    def build(self, shape: Shape) -> nn.Module:
        """The module for maps of this shape."""
        shape = self.out_shape(shape)
        return GatedMix(
            self.convolution.build(shape),
            self.attention.build(shape),
            as_tokens(shape, self.kind)[0],
            detail=self.detail,
            hard=self.hard,
        )


class GatedMix(nn.Module):
    """Both branches and the gate between them; remembers how it last stood."""

    last_gate_BG: Tensor | None
    """How much the convolution led in the last forward pass, per example and channel or place."""
    live_gate_BG: Tensor | None
    """The same with its gradient, a hard gate's before rounding; whoever reads it clears it."""

    def __init__(
        self,
        convolution: nn.Module,
        attention: nn.Module,
        channels: int,
        *,
        detail: str = "channel",
        hard: bool = False,
    ) -> None:
        super().__init__()
        self.convolution = convolution
        self.attention = attention
        self.per_token = detail == "token"
        self.hard = hard
        narrow = max(8, channels // 4)
        self.squeeze = nn.Linear(2 * channels, narrow)
        self.decide = nn.Linear(narrow, channels if detail == "channel" else 1)
        self.last_gate_BG = None
        self.live_gate_BG = None

    def reset_parameters(self) -> None:
        """Begin near an even mix: neither branch may starve before it has learned anything."""
        nn.init.trunc_normal_(self.decide.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """The convex mix of both branches of a map (B, C, H, W) or sequence (B, N, C)."""
        texture, layout = self.convolution(x), self.attention(x)
        soft = torch.sigmoid(self.decide(torch.relu(self.squeeze(self._seen(texture, layout)))))
        gate = soft + ((soft > 0.5).to(soft.dtype) - soft).detach() if self.hard else soft
        self.last_gate_BG = gate.detach().flatten(1)
        self.live_gate_BG = soft.flatten(1)
        # Written out: torch.lerp wants one number format, and under autocast the branches may give
        # two and the gate a third.
        mixed: Tensor = layout + self._spread(gate, x) * (texture - layout)
        return mixed

    def _seen(self, texture: Tensor, layout: Tensor) -> Tensor:
        """What the gate is computed from: both branches' averages, or both at each place."""
        both = [texture, layout]
        if self.per_token:
            tokens = [x.flatten(2).transpose(1, 2) if x.dim() == 4 else x for x in both]
            return torch.cat(tokens, dim=2)
        return torch.cat([x.mean((2, 3)) if x.dim() == 4 else x.mean(1) for x in both], dim=1)

    def _spread(self, gate: Tensor, x: Tensor) -> Tensor:
        """The gate in a shape that fits the branches."""
        if self.per_token:
            return gate.transpose(1, 2).reshape(len(x), 1, *x.shape[2:]) if x.dim() == 4 else gate
        return gate[:, :, None, None] if x.dim() == 4 else gate[:, None, :]


def gate_values(network: nn.Module) -> dict[str, Tensor]:
    """How far the convolution led in each gate in the last forward pass.

    Returns:
        By the module's name in the network, a tensor of shape (B, G) of numbers between 0
        (attention alone) and 1 (convolution alone), G being the channels, the places, or 1. Gates
        that have not run are left out.
    """
    return {
        name: module.last_gate_BG
        for name, module in network.named_modules()
        if isinstance(module, GatedMix) and module.last_gate_BG is not None
    }


def pop_gate_values(network: nn.Module) -> tuple[Tensor, ...]:
    """The gates' values of the forward pass that just ended, with their gradient, in order.

    They are handed out once: a graph that is kept would hold memory, and could not be copied.
    """
    gates = []
    for module in network.modules():
        if isinstance(module, GatedMix) and module.live_gate_BG is not None:
            gates.append(module.live_gate_BG)
            module.live_gate_BG = None
    return tuple(gates)
