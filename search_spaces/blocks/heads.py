"""Heads: predictions from an embedding, or from an intermediate map."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks.block import HEADS, UnbuildableError, added, as_tokens, register
from search_spaces.model_output import NOTHING, ModelOutput
from search_spaces.task import Shape, Task

# B batch, C channels, H height, W width, D embedding width, K classes, V numbers, T towers

POOLINGS = ("average", "maximum", "last", "flatten")
"""`last` is for sequences only; `flatten` keeps every position."""


def pool(x: Tensor, pooling: str) -> Tensor:
    """Pool a map (B, C, H, W) or sequence (B, N, C) to shape (B, D).

    D is one value per channel, its mean, its maximum or the last step of a sequence; or all values.
    """
    if pooling == "last":
        return x[:, -1]
    if pooling == "flatten":
        return x.flatten(1)
    places = (2, 3) if x.dim() == 4 else (1,)
    return x.amax(places) if pooling == "maximum" else x.mean(places)


def pooled_width(shape: Shape, pooling: str) -> int:
    """Return the number D of values that `pool` returns.

    Raises:
        UnbuildableError: The shape is neither map nor sequence, or the last step of a map is
            requested.
    """
    channels, height, width = as_tokens(shape, "pooling")
    if pooling == "last" and len(shape) != 2:
        raise UnbuildableError("only sequences have a last step; pool maps by average")
    return channels * height * width if pooling == "flatten" else channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify:
    """Linear classifier, with an optional hidden layer."""

    kind: ClassVar[str] = "classify"
    dropout: float = 0.0
    """Dropout probability on the embedding."""
    hidden: int = added(0)
    """Width of a hidden layer; 0 omits it."""

    def out_shape(self, shape: Shape, task: Task) -> Shape:
        """Return the shape (K,) of the scores.

        Raises:
            UnbuildableError: The input is no embedding, the task has fewer than two classes or also
                regression targets, or the dropout is not in [0, 1).
        """
        _check(shape, self.dropout, self.hidden)
        if task.num_classes < 2:
            raise UnbuildableError(f"head needs at least 2 classes, not {task.num_classes}")
        if task.num_values:
            raise UnbuildableError("the task also has regression targets; use the head 'both'")
        return (task.num_classes,)

    def build(self, shape: Shape, task: Task) -> nn.Module:
        """Return the module for embeddings of this shape."""
        (num_classes,) = self.out_shape(shape, task)
        return TaskHead(shape, self.dropout, self.hidden, num_classes=num_classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Regress:
    """Linear regression, with an optional hidden layer."""

    kind: ClassVar[str] = "regress"
    dropout: float = 0.0
    """Dropout probability on the embedding."""
    hidden: int = 0
    """Width of a hidden layer; 0 omits it."""

    def out_shape(self, shape: Shape, task: Task) -> Shape:
        """Return the shape (V,) of the predicted targets.

        Raises:
            UnbuildableError: The input is no embedding, the task has no regression targets or also
                classes, or the dropout is not in [0, 1).
        """
        _check(shape, self.dropout, self.hidden)
        if task.num_values < 1:
            raise UnbuildableError("the task has no regression targets; use the head 'classify'")
        if task.num_classes:
            raise UnbuildableError("the task also has classes; use the head 'both'")
        return (task.num_values,)

    def build(self, shape: Shape, task: Task) -> nn.Module:
        """Return the module for embeddings of this shape."""
        (num_values,) = self.out_shape(shape, task)
        return TaskHead(shape, self.dropout, self.hidden, num_values=num_values)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTaskHead:
    """Multi-task head: class scores, regression targets or both, as the task needs.

    For search spaces that serve several kinds of tasks.
    """

    kind: ClassVar[str] = "both"
    dropout: float = 0.0
    """Dropout probability on the embedding."""
    hidden: int = 0
    """Width of a hidden layer; 0 omits it."""

    def out_shape(self, shape: Shape, task: Task) -> Shape:
        """Return the shape (K + V,) of the output.

        Raises:
            UnbuildableError: The input is no embedding, the task has neither classes nor regression
                targets, or the dropout is not in [0, 1).
        """
        _check(shape, self.dropout, self.hidden)
        if task.num_classes == 1 or not task.num_classes + task.num_values:
            raise UnbuildableError(
                "head needs at least 2 classes or a regression target, "
                f"not {task.num_classes} classes"
            )
        return (task.num_classes + task.num_values,)

    def build(self, shape: Shape, task: Task) -> nn.Module:
        """Return the module for embeddings of this shape."""
        self.out_shape(shape, task)
        return TaskHead(
            shape,
            self.dropout,
            self.hidden,
            num_classes=task.num_classes,
            num_values=task.num_values,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionHead:
    """L2-normalized projection without predictions, for contrastive training and retrieval.

    Towers are projected separately, into one common space.
    """

    kind: ClassVar[str] = "embed"
    width: int = 64
    """Length of the projection."""

    def out_shape(self, shape: Shape, task: Task) -> Shape:
        """Return the shape (D,) of the projection, or (T, D) of towers.

        Raises:
            UnbuildableError: The input is no embedding, the width is below 1, or the task has
                classes or regression targets.
        """
        _check(shape, 0.0, 0)
        if self.width < 1:
            raise UnbuildableError(f"width must be at least 1, not {self.width}")
        if task.num_classes or task.num_values:
            raise UnbuildableError(
                "the head 'embed' predicts neither classes nor regression targets; "
                "use the head 'both'"
            )
        return (*shape[:-1], self.width)

    def build(self, shape: Shape, task: Task) -> nn.Module:
        """Return the module for embeddings of this shape."""
        self.out_shape(shape, task)
        return ProjectionLayer(shape, self.width)


class TaskHead(nn.Module):
    """Linear class scores, regression targets, or both."""

    score: nn.Linear | None
    value: nn.Linear | None

    def __init__(
        self,
        shape: Shape,
        dropout: float,
        hidden: int,
        *,
        num_classes: int = 0,
        num_values: int = 0,
    ) -> None:
        super().__init__()
        width = math.prod(shape)
        self.hidden = (
            nn.Sequential(nn.Linear(width, hidden), nn.GELU()) if hidden else nn.Identity()
        )
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(hidden or width, num_classes) if num_classes else None
        self.value = nn.Linear(hidden or width, num_values) if num_values else None

    def forward(self, embedding: Tensor) -> ModelOutput:
        """Return scores (B, K), targets (B, V) and the embedding (B, D), towers concatenated."""
        embedding_BD = embedding.flatten(1)
        read_BD = self.dropout(self.hidden(embedding_BD))
        return ModelOutput(
            logits_BK=NOTHING if self.score is None else self.score(read_BD),
            embedding_BD=embedding_BD,
            values_BV=NOTHING if self.value is None else self.value(read_BD),
        )


class ProjectionLayer(nn.Module):
    """L2-normalized linear projections of the embedding or of each tower."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        towers = shape[0] if len(shape) == 2 else 1
        self.project = nn.ModuleList([nn.Linear(shape[-1], width) for _ in range(towers)])

    def forward(self, embedding: Tensor) -> ModelOutput:
        """Return the projections as the embedding (B, D), and those of towers also separately."""
        parts = embedding.unbind(1) if embedding.dim() == 3 else (embedding,)
        projected = tuple(
            functional.normalize(project(part), dim=1)
            for project, part in zip(self.project, parts, strict=True)
        )
        return ModelOutput(
            embedding_BD=torch.cat(projected, dim=1),
            towers=projected if embedding.dim() == 3 else (),
        )


class AuxiliaryHead(nn.Module):
    """Auxiliary classifier on an intermediate map, so that early stages get a direct gradient.

    Used in training only (Szegedy et al. 2015); the main head does not depend on it.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise UnbuildableError(
                "auxiliary heads score classes, and the task has none; "
                "leave out the loss term that reads them ('auxiliary')"
            )
        self.score = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return scores of shape (B, K)."""
        logits_BK: Tensor = self.score(pool(x_BCHW, "average"))
        return logits_BK


def _check(shape: Shape, dropout: float, hidden: int) -> None:
    if len(shape) not in (1, 2) or min(shape) < 1:
        raise UnbuildableError(f"head needs an embedding, not {shape}")
    if not 0 <= dropout < 1:
        raise UnbuildableError(f"dropout must be at least 0 and below 1, not {dropout}")
    if hidden < 0:
        raise UnbuildableError(f"hidden must not be negative, not {hidden}")


register(HEADS, Classify)
register(HEADS, Regress)
register(HEADS, MultiTaskHead)
register(HEADS, ProjectionHead)
