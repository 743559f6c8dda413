"""Cost of a network, counted without computing or allocating anything.

The network is built on torch's meta device, where tensors have shapes and no memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from search_spaces.architecture import Architecture, Network
from search_spaces.task import Task

BATCH = 2
"""Batch normalization cannot train on one example, so two are counted and the costs halved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Costs of a network that do not depend on the machine."""

    parameters: int
    """Number of trainable parameters."""
    flops: int
    """Floating-point operations of the forward pass of one example; a multiply-add counts as
    two."""
    activation_bytes: int
    """Memory that the forward pass of one example keeps for the backward pass, in float32.

    Includes the attention matrix of tokens by tokens, which fused kernels do not keep.
    """


def cost(architecture: Architecture, task: Task) -> Cost:
    """Return the cost of an architecture, without auxiliary heads.

    Raises:
        UnbuildableError: The decisions do not fit together, or not to the task.
    """
    with torch.device("meta"):
        network = Network(architecture, task, auxiliary=False)
        inputs = {name: torch.empty(BATCH, *shape) for name, shape in task.inputs.items()}
    flops, saved_bytes = _forward(network, inputs)
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops=flops // BATCH,
        activation_bytes=saved_bytes // BATCH,
    )


def _forward(network: Network, inputs: dict[str, Tensor]) -> tuple[int, int]:
    """Return the FLOPs of one pass over the batch, and the bytes kept for the backward pass."""
    held = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[StorageWeakRef, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> None:
        # Several operations may save the same tensor; its storage counts once, and is kept alive
        # so that no later one reuses its key. Neither the table nor the return value may hold the
        # tensor: it holds the graph, which holds this function and its return value, a reference
        # cycle that torch 2.13 never frees (140 KB a network).
        reference = _storage(tensor)
        if reference not in held:
            kept[reference] = tensor.untyped_storage()

    with (
        Counting() as counting,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved),
    ):
        network(inputs)
    return counting.flops, sum(storage.nbytes() for storage in kept.values())


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


aten = torch.ops.aten


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, operations on meta tensors give shapes only, and their FLOPs are summed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        """Floating-point operations so far, by torch's formulas; a multiply-add counts as two."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the operation's result, or a tensor of the same shape."""
        operation = func.overloadpacket
        shortcut = SHORTCUTS.get(operation)
        out = None if shortcut is None or kwargs else shortcut(*args)
        if out is None:
            out = func(*args, **(kwargs or {}))
        if operation in flop_registry:
            self.flops += flop_registry[operation](*args, **(kwargs or {}), out_val=out)
        return out


def _like(x: Tensor, *_: Any) -> Tensor | None:
    return torch.empty_like(x) if x.is_floating_point() else None


def _itself(x: Tensor) -> Tensor:
    return x


def _like_both(x: Tensor, other: Any, *_: Any) -> Tensor | None:
    if not isinstance(other, Tensor):
        return torch.empty_like(x) if x.is_floating_point() else None
    if x.dtype != other.dtype:
        return None
    shape = torch.broadcast_shapes(x.shape, other.shape)  # type: ignore[no-untyped-call]
    # Only if it has the shape already: its memory format decides which copies follow.
    like = x if x.shape == shape else other
    return torch.empty_like(like) if like.shape == shape else None


def _divided(x: Tensor, other: Any, *_: Any) -> Tensor | None:
    return _like_both(x, other) if x.is_floating_point() else None  # integers change their type


def _compared(x: Tensor, other: Any) -> Tensor | None:
    return None if isinstance(other, Tensor) else torch.empty_like(x, dtype=torch.bool)


def _mean(x: Tensor, dims: Sequence[int] | None = None, keep: bool = False) -> Tensor | None:
    if not x.is_floating_point() or not all(-x.dim() <= dim < x.dim() for dim in dims or ()):
        return None
    gone = {dim % x.dim() for dim in dims or range(x.dim())}
    sides = [1 if dim in gone else side for dim, side in enumerate(x.shape)]
    return x.new_empty([side for dim, side in enumerate(sides) if keep or dim not in gone])


def _addmm(_bias: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return left.new_empty(left.shape[0], right.shape[1])


def _batch_norm(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _layer_norm(x: Tensor, normalized: Sequence[int], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    outer = (*x.shape[: -len(normalized)], *[1] * len(normalized))
    return torch.empty_like(x), x.new_empty(outer), x.new_empty(outer)


def _group_norm(
    x: Tensor, _weight: Tensor, _bias: Tensor, batch: int, _c: int, _hw: int, groups: int, _: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(batch, groups), x.new_empty(batch, groups)


SHORTCUTS: dict[Any, Callable[..., Any]] = {
    aten.relu: _like,
    aten.relu_: _itself,
    aten.gelu: _like,
    aten.silu: _like,
    aten.sigmoid: _like,
    aten._safe_softmax: _like,  # noqa: SLF001 - attention's softmax in torch
    aten.add: _like_both,
    aten.mul: _like_both,
    aten.div: _divided,
    aten.ge: _compared,
    aten.mean: _mean,
    aten.elu: _like,
    aten.addmm: _addmm,
    aten.native_batch_norm: _batch_norm,
    aten._native_batch_norm_legit: _batch_norm,  # noqa: SLF001 - its name on the meta device
    aten.native_layer_norm: _layer_norm,
    aten.native_group_norm: _group_norm,
}
"""Operations whose result shape follows from the inputs; None where it does not."""
