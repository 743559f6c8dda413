"""Heads: what is read off an embedding, or off a map halfway."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from search_spaces.blocks.block import HEADS, UnbuildableError, register
from search_spaces.model_output import ModelOutput
from search_spaces.task import Shape, Task

# B batch, C channels, H height, W width, D embedding width, K classes

POOLINGS = ("average", "maximum", "last")
"""The last step is a sequence's alone."""


def pool(x: Tensor, pooling: str) -> Tensor:
    """One number per channel of a map (B, C, H, W) or sequence (B, N, C), shape (B, C).

    Its average or its maximum over all places, or what the last step of a sequence holds.
    """
    if pooling == "last":
        return x[:, -1]
    places = (2, 3) if x.dim() == 4 else (1,)
    return x.amax(places) if pooling == "maximum" else x.mean(places)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify:
    """One score per class, linear in the embedding."""

    kind: ClassVar[str] = "classify"
    dropout: float = 0.0
    """Share of the embedding left out in training."""

    def out_shape(self, shape: Shape, task: Task) -> Shape:
        """The scores' shape (K,).

        Raises:
            UnbuildableError: No embedding, fewer than two classes, or a dropout outside 0 to 1.
        """
        if len(shape) != 1:
            raise UnbuildableError(f"head needs an embedding, not {shape}")
        if task.num_classes < 2:
            raise UnbuildableError(f"head needs at least 2 classes, not {task.num_classes}")
        if not 0 <= self.dropout < 1:
            raise UnbuildableError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        return (task.num_classes,)

    def build(self, shape: Shape, task: Task) -> nn.Module:
        """The module for embeddings of this shape."""
        (num_classes,) = self.out_shape(shape, task)
        return ClassScores(shape[0], num_classes, self.dropout)


class ClassScores(nn.Module):
    """Scores linear in the embedding."""

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(width, num_classes)

    def forward(self, embedding_BD: Tensor) -> ModelOutput:
        """Scores of shape (B, K), and the embedding."""
        return ModelOutput(self.score(self.dropout(embedding_BD)), embedding_BD)


class AuxiliaryHead(nn.Module):
    """Class scores read off a map halfway, so that early stages learn from the labels directly.

    Used in training only (Szegedy et al. 2015); the main head does not depend on it.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Scores of shape (B, K)."""
        logits_BK: Tensor = self.score(pool(x_BCHW, "average"))
        return logits_BK


register(HEADS, Classify)
