"""Sequence blocks that use the past only: recurrent cells and causal convolutions."""

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
    """A recurrent layer, from the first step to the last, that outputs its state at each step."""

    kind: ClassVar[str] = "recurrent"
    symbol: ClassVar[str] = "R"
    cell: str = "lstm"
    """Kind of cell: `lstm` or `gru`."""
    dropout: float = 0.0
    """Dropout probability of the output."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

        Raises:
            UnbuildableError: The input is no sequence, the cell is unknown, or the dropout is not
                in [0, 1).
        """
        check_name("cell", self.cell, CELLS)
        if not 0 <= self.dropout < 1:
            raise UnbuildableError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        return as_sequence(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for sequences of this shape."""
        return self.downsample(shape, self.out_shape(shape))

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """Return the module whose state has another width than its input."""
        _, channels = as_sequence(shape, self.kind)
        _, width = as_sequence(self.out_shape(target), self.kind)
        return RecurrentLayer(CELLS[self.cell](channels, width, batch_first=True), self.dropout)


class RecurrentLayer(nn.Module):
    """A recurrent layer and dropout of its output."""

    def __init__(self, cell: nn.LSTM | nn.GRU, dropout: float) -> None:
        super().__init__()
        self.cell = cell
        self.drop = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Initialize recurrent matrices orthogonally and the forget gates of an LSTM open."""
        parameters = dict(self.cell.named_parameters())
        for name, parameter in parameters.items():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
                continue
            # One matrix per gate: the cell stacks them.
            for matrix in parameter.chunk(len(parameter) // self.cell.hidden_size):
                rule = nn.init.orthogonal_ if "hh" in name else nn.init.xavier_uniform_
                rule(matrix)
        if isinstance(self.cell, nn.LSTM):
            with torch.no_grad():
                parameters["bias_ih_l0"].chunk(4)[1].fill_(1)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return the state after each step, shape (B, N, C)."""
        states_BNC, _ = self.cell(x_BNC)
        y_BNC: Tensor = self.drop(states_BNC)
        return y_BNC


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalConvolution:
    """Two causal convolutions with a residual connection (Bai et al. 2018)."""

    kind: ClassVar[str] = "temporal"
    symbol: ClassVar[str] = "K"
    kernel: int = 3
    """Kernel size of each convolution, in steps."""
    dilation: int = 1
    """Dilation of the convolutions."""
    drop_path: float = 0.0
    """Stochastic-depth rate: probability of skipping the block during training."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the input shape.

        Raises:
            UnbuildableError: The input is no sequence, or kernel or dilation is below 1.
        """
        if min(self.kernel, self.dilation) < 1:
            raise UnbuildableError("kernel and dilation must be at least 1")
        return as_sequence(shape, self.kind)

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for sequences of this shape."""
        _, channels = as_sequence(self.out_shape(shape), self.kind)
        return TemporalLayer(self, channels)


class TemporalLayer(nn.Module):
    """Normalized causal convolutions, added to their input."""

    def __init__(self, spec: TemporalConvolution, channels: int) -> None:
        super().__init__()
        self.past = (spec.kernel - 1) * spec.dilation
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(channels, channels, spec.kernel, dilation=spec.dilation) for _ in range(2)]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.drop = DropPath(spec.drop_path)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return the sequence, where each step depends on itself and earlier ones."""
        branch_BNC = x_BNC
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            padded_BCN = functional.pad(branch_BNC.transpose(1, 2), (self.past, 0))
            branch_BNC = torch.relu(norm(convolve(padded_BCN).transpose(1, 2)))
        y_BNC: Tensor = x_BNC + self.drop(branch_BNC)
        return y_BNC


def as_sequence(shape: Shape, name: str) -> tuple[int, int]:
    """Return the length and features of a sequence's shape.

    Raises:
        UnbuildableError: The shape is not that of a sequence, or has a zero.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise UnbuildableError(f"{name} needs a sequence (length, features), not {shape}")
    return shape[0], shape[1]
