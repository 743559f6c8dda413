"""How well a network does on examples it does not learn from.

Knows no trial and no budget: promotion evaluates by the same lines as training.
"""

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

# B batch, K classes, V numbers

EVALUATION_BATCH = 256
"""Examples that a loss is taken over at once: the same for all, since losses that compare examples
depend on it."""


class MetricAccumulator:
    """Loss, hits and errors summed up on the device, read once: reading waits for the device."""

    def __init__(self, device: torch.device, value_names: Sequence[str] = ()) -> None:
        self.value_names = value_names
        """What the numbers foretold are called."""
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
        """Count one batch.

        Args:
            mean_loss: Its loss, a scalar.
            output: What the network gives for it.
            batch: Its targets.
            other: The targets of the examples mixed into it.
            share: How much `batch` counts beside `other`.
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
            missed_BV = output.values_BV.detach() - batch.values_BV
            self.squares += share * missed_BV.square().sum(dtype=torch.float64)
            in_units_BV = missed_BV * batch.target_scaler.values_deviation_V
            self.distance_V += share * in_units_BV.abs().sum(0, dtype=torch.float64)

    def mean_loss(self, part: str) -> float:
        """Mean loss so far; the part is named if it is no number.

        Raises:
            Diverged: The loss is no finite number.
        """
        loss = float(self.loss) / self.count
        if not math.isfinite(loss):
            raise DivergedError(f"{part}_loss is {loss}")
        return loss

    def metrics(self, part: str) -> dict[str, float]:
        """What was counted under the part's name.

        `loss` always; `accuracy` where classes are told; where a number is, `mae`, its mean
        absolute error in the data's units, or `mae/NAME` for each of several; and `rmse`, the root
        mean squared error of all in deviations of the training part, so that 1 is what
        foretelling the mean comes to.

        Raises:
            Diverged: The loss, or an error of the numbers, is no finite number.
        """
        found = {f"{part}_loss": self.mean_loss(part)}
        if self.num_scored:
            found[f"{part}_accuracy"] = float(self.hits) / self.num_scored
        if self.num_values:
            errors = (self.distance_V / self.num_values).tolist()
            named = zip(mae_names(self.value_names), errors, strict=False)
            found |= {f"{part}_{name}": error for name, error in named}
            found[f"{part}_rmse"] = math.sqrt(float(self.squares) / self.num_values / len(errors))
        for name, value in found.items():
            if not math.isfinite(value):
                raise DivergedError(f"{name} is {value}")
        return found


def forward(network: nn.Module, inputs: Mapping[str, Tensor], execution: Execution) -> ModelOutput:
    """One forward pass in the execution's precision; what comes out is float32."""
    with ExitStack() as stack:
        stack.enter_context(execution.autocast())
        if any(values.requires_grad for values in inputs.values()):
            # Slopes along the inputs are differentiated again, which neither fused attention nor
            # cuDNN's recurrent cells can be.
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
    tally: MetricAccumulator,
    *,
    at_once: int = EVALUATION_BATCH,
) -> Iterator[float]:
    """Count a whole part into the tally, telling after each batch which share of it is done.

    Whoever iterates decides what happens between batches. The network is left in evaluation mode.

    Args:
        network: What is judged.
        term: The loss by which it is judged; takes (ModelOutput, Batch).
        split: The examples.
        execution: The precision to compute in.
        tally: Where loss and hits are counted.
        at_once: Most examples in one forward pass. What training takes at once fits in memory,
            a larger batch may not.
    """
    network.eval()
    for batch in split.in_order(EVALUATION_BATCH):
        # Not around the loop: the mode would stay on in the caller between batches.
        with torch.inference_mode():
            output = _forward_by_parts(network, batch, execution, at_once)
            tally.add(term(output, batch), output, batch)
        yield tally.count / len(split)


def _forward_by_parts(
    network: nn.Module, batch: Batch, execution: Execution, at_once: int
) -> ModelOutput:
    """What the network gives for a batch, computed for so many examples at a time."""
    parts = [
        forward(
            network,
            {name: values[start : start + at_once] for name, values in batch.inputs.items()},
            execution,
        )
        for start in range(0, len(batch.targets_B), at_once)
    ]
    return parts[0] if len(parts) == 1 else ModelOutput(*map(_joined, zip(*parts, strict=True)))


def _joined(parts: Sequence[Any]) -> Any:
    """The same part of several outputs, one after the other."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return tuple(map(_joined, zip(*parts, strict=True)))
