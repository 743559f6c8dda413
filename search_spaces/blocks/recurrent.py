"""Blocks for sequences that read step by step: recurrent cells and causal convolutions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import UnbuildableError, check_name, register_block
from search_spaces.blocks.drop_path import DropPath
from search_spaces.task import Shape

# B batch, N steps, C channels

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
"""Hochreiter and Schmidhuber 1997; Cho et al. 2014."""


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent:
    """A cell that reads a sequence from its first step to its last and gives its state at each."""

    kind: ClassVar[str] = "recurrent"
    symbol: ClassVar[str] = "R"
    cell: str = "lstm"
    """`lstm` or `gru`."""
    dropout: float = 0.0
    """Share of what it gives that is left out in training."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in.

        Raises:
            UnbuildableError: It is no sequence, the cell is unknown, or the dropout is no share.
        """
        check_name("cell", self.cell, CELLS)
        if not 0 <= self.dropout < 1:
            raise UnbuildableError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        return as_sequence(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """The module for sequences of this shape."""
        return self.downsample(shape, self.out_shape(shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """The module whose state is of another width than what it reads."""
        _, channels = as_sequence(shape, self.kind)
        _, width = as_sequence(self.out_shape(target), self.kind)
        return RecurrentLayer(CELLS[self.cell](channels, width, batch_first=True), self.dropout)


class RecurrentLayer(nn.Module):
    """A recurrent cell and dropout over what it gives."""

    def __init__(self, cell: nn.LSTM | nn.GRU, dropout: float) -> None:
        super().__init__()
        self.cell = cell
        self.drop = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """States are kept in length from step to step, and the LSTM at first forgets little."""
        parameters = dict(self.cell.named_parameters())
        for name, parameter in parameters.items():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
                continue
            # Each gate's matrix by itself: the cell stacks them.
            for matrix in parameter.chunk(len(parameter) // self.cell.hidden_size):
                rule = nn.init.orthogonal_ if "hh" in name else nn.init.xavier_uniform_
                rule(matrix)
        if isinstance(self.cell, nn.LSTM):
            with torch.no_grad():
                parameters["bias_ih_l0"].chunk(4)[1].fill_(1)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """The state after each step, shape (B, N, C)."""
        states_BNC, _ = self.cell(x_BNC)
        y_BNC: Tensor = self.drop(states_BNC)
        return y_BNC


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalConvolution:
    """Two convolutions over past steps alone, around a shortcut (Bai et al. 2018)."""

    kind: ClassVar[str] = "temporal"
    symbol: ClassVar[str] = "K"
    kernel: int = 3
    """How many steps each convolution sees."""
    dilation: int = 1
    """Distance between the steps that it sees."""
    drop_path: float = 0.0
    """Chance that an example skips the convolutions in training."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that goes in.

        Raises:
            UnbuildableError: It is no sequence, or kernel or dilation is not positive.
        """
        if min(self.kernel, self.dilation) < 1:
            raise UnbuildableError("kernel and dilation must be at least 1")
        return as_sequence(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """The module for sequences of this shape."""
        _, channels = as_sequence(self.out_shape(shape), self.kind)
        return TemporalLayer(self, channels)


class TemporalLayer(nn.Module):
    """Causal convolutions, each normalised, added to their input."""

    def __init__(self, spec: TemporalConvolution, channels: int) -> None:
        super().__init__()
        self.past = (spec.kernel - 1) * spec.dilation
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(channels, channels, spec.kernel, dilation=spec.dilation) for _ in range(2)]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.drop = DropPath(spec.drop_path)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """The sequence, each step informed by those before it."""
        branch_BNC = x_BNC
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            padded_BCN = functional.pad(branch_BNC.transpose(1, 2), (self.past, 0))
            branch_BNC = torch.relu(norm(convolve(padded_BCN).transpose(1, 2)))
        y_BNC: Tensor = x_BNC + self.drop(branch_BNC)
        return y_BNC


def as_sequence(shape: Shape, name: str) -> tuple[int, int]:
    """The shape's length and features.

    Raises:
        UnbuildableError: It is no sequence, or an empty one.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise UnbuildableError(f"{name} needs a sequence (length, features), not {shape}")
    return shape[0], shape[1]
