"""The dynamic gate: a learned, input-dependent mix of convolution and attention."""

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
"""One value per channel, per map, or per position."""


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Two branches of the same map or sequence, mixed by weights computed from both.

    A value g between 0 and 1 per channel, example or position weights the branch for texture: g *
    convolution + (1 - g) * attention.
    """

    kind: ClassVar[str] = "gate"
    convolution: Block
    """Branch for texture; preserves the shape."""
    attention: Block
    """Branch for layout; preserves the shape."""
    detail: str = added("channel")
    """Granularity of g: one per `channel`, one per map (`scalar`), or one per `token`."""
    hard: bool = added(False)
    """Round g to 0 or 1, with a straight-through gradient (Bengio et al. 2013)."""

    @property
    def symbol(self) -> str:
        """Return both branches' letters."""
        return symbols((self.convolution, self.attention))

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

        Raises:
            UnbuildableError: A branch changes the shape or cannot take it.
        """
        as_tokens(shape, self.kind)
        check_name("detail", self.detail, DETAILS)
        return keeping(self.kind, (self.convolution, self.attention), shape)

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for maps of this shape."""
        shape = self.out_shape(shape)
        return GatedMix(
            self.convolution.build(shape),
            self.attention.build(shape),
            as_tokens(shape, self.kind)[0],
            detail=self.detail,
            hard=self.hard,
        )


class GatedMix(nn.Module):
    """Both branches and the gate between them; keeps the values of the last forward pass."""

    last_gate_BG: Tensor | None
    """Weight of the convolution in the last forward pass, per example and channel or position."""
    live_gate_BG: Tensor | None
    """The same with its gradient, before rounding; cleared by `pop_gate_values`."""

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
        """Start near an equal mix, so that both branches get a gradient."""
        nn.init.trunc_normal_(self.decide.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convex combination of both branches, in the shape of the input."""
        texture, layout = self.convolution(x), self.attention(x)
        soft = torch.sigmoid(
            self.decide(torch.relu(self.squeeze(self._gate_inputs(texture, layout))))
        )
        gate = soft + ((soft > 0.5).to(soft.dtype) - soft).detach() if self.hard else soft
        self.last_gate_BG = gate.detach().flatten(1)
        self.live_gate_BG = soft.flatten(1)
        # Not torch.lerp, which needs one dtype: under autocast both branches and the gate may
        # have three different ones.
        mixed: Tensor = layout + self._spread(gate, x) * (texture - layout)
        return mixed

    def _gate_inputs(self, texture: Tensor, layout: Tensor) -> Tensor:
        """Return the gate's inputs: both branches' means, or both at each position."""
        both = [texture, layout]
        if self.per_token:
            tokens = [x.flatten(2).transpose(1, 2) if x.dim() == 4 else x for x in both]
            return torch.cat(tokens, dim=2)
        return torch.cat([x.mean((2, 3)) if x.dim() == 4 else x.mean(1) for x in both], dim=1)

    def _spread(self, gate: Tensor, x: Tensor) -> Tensor:
        """Return the gate in a shape that broadcasts to the branches."""
        if self.per_token:
            return gate.transpose(1, 2).reshape(len(x), 1, *x.shape[2:]) if x.dim() == 4 else gate
        return gate[:, :, None, None] if x.dim() == 4 else gate[:, None, :]


def gate_values(network: nn.Module) -> dict[str, Tensor]:
    """Return the weight of the convolution in each gate in the last forward pass.

    Returns:
        By the name of the module, a tensor of shape (B, G) with values between 0 (attention only)
        and 1 (convolution only); G is the number of channels or positions, or 1. Gates that have
        not run are left out.
    """
    return {
        name: module.last_gate_BG
        for name, module in network.named_modules()
        if isinstance(module, GatedMix) and module.last_gate_BG is not None
    }


def pop_gate_values(network: nn.Module) -> tuple[Tensor, ...]:
    """Return the gates' values of the last forward pass, with their gradient, in order.

    They are removed from the gates: a kept graph would hold memory and could not be copied.
    """
    gates = []
    for module in network.modules():
        if isinstance(module, GatedMix) and module.live_gate_BG is not None:
            gates.append(module.live_gate_BG)
            module.live_gate_BG = None
    return tuple(gates)
