"""Terms for consistency between views, for distillation, and for decisive gates."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.domains import FloatRange
from search_spaces.loss_terms import loss_term
from search_spaces.losses.similarity import second_view_output
from search_spaces.model_output import Batch, ModelOutput

# B batch, K classes, G gate values


@loss_term("consistency", needs=("view",))
class Consistency(nn.Module):
    """Consistency of the predictions for two augmentations of an example.

    Squared distance of probabilities and regression targets; source: the Pi-model, Laine and Aila
    2017, arXiv:1610.02242.
    """

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over the batch, a scalar."""
        view = second_view_output(batch)
        apart = output.embedding_BD.sum() * 0
        if output.logits_BK.numel():
            ours, theirs = output.logits_BK.softmax(1), view.logits_BK.softmax(1)
            apart = apart + (ours - theirs).square().sum(1).mean()
        if output.values_BV.numel():
            apart = apart + functional.mse_loss(output.values_BV, view.values_BV)
        return apart


@loss_term(
    "distillation",
    needs=("logits", "teacher"),
    options={"temperature": FloatRange(1.0, 8.0, step=1.0, initial=4.0)},
)
class Distillation(nn.Module):
    """Divergence from the teacher's probabilities at a temperature.

    Source: Hinton et al. 2015, arXiv:1503.02531.
    """

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean divergence over the batch, times the squared temperature, a scalar.

        Raises:
            ValueError: There is no teacher.
        """
        if batch.teacher is None:
            raise ValueError("distillation needs a teacher")
        ours_BK = functional.log_softmax(output.logits_BK / self.temperature, dim=1)
        theirs_BK = functional.log_softmax(batch.teacher.logits_BK / self.temperature, dim=1)
        apart = functional.kl_div(ours_BK, theirs_BK, reduction="batchmean", log_target=True)
        return apart * self.temperature**2


@loss_term("gate_entropy", needs=("gates",))
class GateEntropy(nn.Module):
    """Mean entropy of the gates in bits; minimizing it makes the gates decisive."""

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:  # noqa: ARG002 - as every term
        """Return the mean over gates and batch, 0 to 1, a scalar; 0 for a network without gates."""
        if not output.gates:
            return output.embedding_BD.sum() * 0
        gates = (
            torch.cat([gate_BG.flatten() for gate_BG in output.gates]).float().clamp(1e-6, 1 - 1e-6)
        )
        bits = -(gates * gates.log2() + (1 - gates) * (1 - gates).log2())
        return bits.mean()
