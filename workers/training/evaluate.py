"""Evaluation of a network; training and promotion share it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from search_spaces.model_output import Batch, ModelOutput
from workers.failures import DivergedError
from workers.metrics import mae_names
from workers.training.batches import DeviceSplit
from workers.training.device import Execution

# B batch, K classes, V regression targets

EVALUATION_BATCH = 256
"""Batch size of evaluation: fixed, because losses that compare examples depend on it."""


class MetricAccumulator:
    """Sums of loss, hits and errors on the device, read once: reading synchronizes."""

    def __init__(self, device: torch.device, value_names: Sequence[str] = ()) -> None:
        self.value_names = value_names
        """Names of the regression targets."""
        self.loss = torch.zeros((), device=device, dtype=torch.float64)
        self.hits = torch.zeros((), device=device, dtype=torch.float64)
        self.distance_V = torch.zeros(len(value_names), device=device, dtype=torch.float64)
        self.squares = torch.zeros((), device=device, dtype=torch.float64)
        self.count = self.num_scored = self.num_values = 0

    def add(
        self,
        mean_loss: Tensor,
        output: ModelOutput,
        batch: Batch,
        other: Batch | None = None,
        share: float = 1.0,
    ) -> None:
        """Add one batch.

        Args:
            mean_loss: Mean loss of the batch, a scalar.
            output: Output of the network for the batch.
            batch: The batch with its targets.
            other: Batch with the targets of the examples mixed into it; None without mixing.
            share: Weight of `batch`; that of `other` is 1 - `share`.
        """
        self.loss += mean_loss.detach() * len(batch.targets_B)
        self.count += len(batch.targets_B)
        self.num_scored += len(batch.targets_B) if output.logits_BK.numel() else 0
        self.num_values += len(output.values_BV) if output.values_BV.numel() else 0
        self._compare(output, batch, share)
        if other is not None:
            self._compare(output, other, 1 - share)

    def _compare(self, output: ModelOutput, batch: Batch, share: float) -> None:
        if output.logits_BK.numel():
            hits = (output.logits_BK.detach().argmax(1) == batch.targets_B).sum()
            self.hits += share * hits
        if output.values_BV.numel():
            error_BV = output.values_BV.detach() - batch.values_BV
            self.squares += share * error_BV.square().sum(dtype=torch.float64)
            in_units_BV = error_BV * batch.target_scaler.values_deviation_V
            self.distance_V += share * in_units_BV.abs().sum(0, dtype=torch.float64)

    def mean_loss(self, split: str) -> float:
        """Return the mean loss so far.

        Args:
            split: Name of the split, for the error message.

        Raises:
            DivergedError: The loss is not finite.
        """
        loss = float(self.loss) / self.count
        if not math.isfinite(loss):
            raise DivergedError(f"{split}_loss is {loss}")
        return loss

    def metrics(self, split: str) -> dict[str, float]:
        """Return the metrics, each prefixed by the name of the split.

        `loss` always; `accuracy` for classes; for a regression target `mae`, its mean absolute
        error in the data's units, or `mae/NAME` for each of several; and `rmse`, the root mean
        squared error of all targets in standard deviations of the training split, so that
        predicting the mean gives 1.

        Raises:
            DivergedError: The loss, or an error of a target, is not finite.
        """
        found = {f"{split}_loss": self.mean_loss(split)}
        if self.num_scored:
            found[f"{split}_accuracy"] = float(self.hits) / self.num_scored
        if self.num_values:
            errors = (self.distance_V / self.num_values).tolist()
            named = zip(mae_names(self.value_names), errors, strict=False)
            found |= {f"{split}_{name}": error for name, error in named}
            found[f"{split}_rmse"] = math.sqrt(float(self.squares) / self.num_values / len(errors))
        for name, value in found.items():
            if not math.isfinite(value):
                raise DivergedError(f"{name} is {value}")
        return found


def forward(network: nn.Module, inputs: Mapping[str, Tensor], execution: Execution) -> ModelOutput:
    """Run one forward pass in the execution's precision; the output is float32."""
    with ExitStack() as stack:
        stack.enter_context(execution.autocast())
        if any(values.requires_grad for values in inputs.values()):
            # Gradients with respect to the inputs are differentiated again, which neither fused
            # attention nor cuDNN's recurrent cells support.
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        output: ModelOutput = network(inputs)
    return ModelOutput(*(_float(part) for part in output))


def _float(part: Tensor | tuple[Tensor, ...]) -> Any:
    return part.float() if isinstance(part, Tensor) else tuple(each.float() for each in part)


def evaluate(
    network: nn.Module,
    term: nn.Module,
    split: DeviceSplit,
    execution: Execution,
    accumulator: MetricAccumulator,
    *,
    max_batch_size: int = EVALUATION_BATCH,
) -> Iterator[float]:
    """Evaluate a network on a split; yields the fraction done after each batch.

    The network is left in evaluation mode.

    Args:
        network: Network to evaluate.
        term: Loss term, called with (ModelOutput, Batch).
        split: Examples.
        execution: Precision to compute in.
        accumulator: Accumulates loss and metrics.
        max_batch_size: Maximum number of examples per forward pass; the training batch size is
            known to fit in memory.
    """
    network.eval()
    for batch in split.in_order(EVALUATION_BATCH):
        # Not around the loop: the mode would stay active in the caller between batches.
        with torch.inference_mode():
            output = _forward_in_chunks(network, batch, execution, max_batch_size)
            accumulator.add(term(output, batch), output, batch)
        yield accumulator.count / len(split)


def _forward_in_chunks(
    network: nn.Module, batch: Batch, execution: Execution, size: int
) -> ModelOutput:
    """Return the output for a batch, computed for `size` examples at a time."""
    parts = [
        forward(
            network,
            {name: values[start : start + size] for name, values in batch.inputs.items()},
            execution,
        )
        for start in range(0, len(batch.targets_B), size)
    ]
    return (
        parts[0] if len(parts) == 1 else ModelOutput(*map(_concatenate, zip(*parts, strict=True)))
    )


def _concatenate(parts: Sequence[Any]) -> Any:
    """Concatenate one field of several outputs."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return tuple(map(_concatenate, zip(*parts, strict=True)))
