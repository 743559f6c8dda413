"""How well a network does on examples it does not learn from.

Knows no trial and no budget: promotion evaluates by the same lines as training.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from search_spaces.model_output import ModelOutput
from workers.batches import DeviceSplit
from workers.device import Execution
from workers.failures import Diverged

# B batch, K classes

EVALUATION_BATCH = 256


class Tally:
    """Loss and hits summed up on the device, read once: reading waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), device=device, dtype=torch.float64)
        self.hits = torch.zeros((), device=device, dtype=torch.int64)
        self.count = 0

    def add(self, mean_loss: Tensor, logits_BK: Tensor, targets_B: Tensor) -> None:
        """Count one batch."""
        self.loss += mean_loss.detach() * len(targets_B)
        self.hits += (logits_BK.detach().argmax(1) == targets_B).sum()
        self.count += len(targets_B)

    def mean_loss(self, part: str) -> float:
        """Mean loss so far; the part is named if it is no number.

        Raises:
            Diverged: The loss is no finite number.
        """
        loss = float(self.loss) / self.count
        if not math.isfinite(loss):
            raise Diverged(f"{part}_loss is {loss}")
        return loss

    def metrics(self, part: str) -> dict[str, float]:
        """Mean loss and accuracy under the part's name.

        Raises:
            Diverged: The loss is no finite number.
        """
        loss = self.mean_loss(part)
        return {f"{part}_loss": loss, f"{part}_accuracy": int(self.hits) / self.count}


def forward(network: nn.Module, inputs: dict[str, Tensor], execution: Execution) -> ModelOutput:
    """One forward pass in the execution's precision; what comes out is float32."""
    with execution.autocast():
        output: ModelOutput = network(inputs)
    return ModelOutput(
        output.logits_BK.float(),
        output.embedding_BD.float(),
        tuple(logits.float() for logits in output.auxiliary),
    )


def evaluate(
    network: nn.Module, term: nn.Module, split: DeviceSplit, execution: Execution, tally: Tally
) -> Iterator[float]:
    """Count a whole part into the tally, telling after each batch which share of it is done.

    Whoever iterates decides what happens between batches. The network is left in evaluation mode.

    Args:
        network: What is judged.
        term: The loss by which it is judged; takes (ModelOutput, targets_B).
        split: The examples.
        execution: The precision to compute in.
        tally: Where loss and hits are counted.
    """
    network.eval()
    for inputs, targets_B in split.in_order(EVALUATION_BATCH):
        # Not around the loop: the mode would stay on in the caller between batches.
        with torch.inference_mode():
            output = forward(network, inputs, execution)
            tally.add(term(output, targets_B), output.logits_BK, targets_B)
        yield tally.count / len(split)
