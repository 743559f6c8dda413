"""What a network costs, counted without computing or allocating anything.

The network is built on torch's meta device, where tensors have shapes and no memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from search_spaces.architecture import Architecture, Network
from search_spaces.meta import Counting
from search_spaces.task import Task

BATCH = 2
"""Batch normalisation refuses to train on one example, so two are counted and halved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a network needs, whatever the machine."""

    parameters: int
    """Trainable numbers."""
    flops: int
    """Floating-point operations of one example's forward pass; a multiply-add counts as two."""
    activation_bytes: int
    """Memory that training one example keeps from the forward for the backward pass, in float32.

    Attention counts with its matrix of tokens by tokens, which fused kernels do not keep.
    """


def cost(architecture: Architecture, task: Task) -> Cost:
    """The cost of an architecture's network, without auxiliary heads.

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
    """FLOPs of one pass over the batch, and the bytes it keeps for the backward pass."""
    held = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[StorageWeakRef, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> None:
        # Several operations may save one tensor; its storage counts once, and is held so that no
        # later one can take its place in the table. Neither the table nor what is returned here
        # may hold the tensor: it holds the graph, which holds this function and what it returned,
        # a circle that torch 2.13 never frees (140 KB a network).
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
