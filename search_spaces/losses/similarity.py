"""Terms that compare examples: triplets, two views of an example, two streams of an example.

Embeddings are L2-normalized first.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.domains import FloatRange
from search_spaces.loss_terms import loss_term
from search_spaces.model_output import Batch, ModelOutput

# B batch, D embedding width

MAX_LOG_SCALE = math.log(100)
"""Maximum logarithm of CLIP's inverse temperature, as in its paper."""
COLDEST = 0.0
"""Minimum: far below, all pairs look alike and the gradient vanishes."""


@loss_term(
    "triplet",
    needs=("embedding", "labels"),
    options={"margin": FloatRange(0.05, 0.5, step=0.05, initial=0.2)},
)
class Triplet(nn.Module):
    """Triplet loss: the farthest example of the same class is nearer than any other, by a margin.

    Source: Hermans et al. 2017, arXiv:1703.07737, "batch hard".
    """

    def __init__(self, *, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over the triplets that violate the margin; 0 if none does."""
        # Masks instead of indexing, whose result size would make the host wait for the GPU.
        embedding_BD = functional.normalize(output.embedding_BD.float(), dim=1)
        apart_BB = torch.cdist(embedding_BD, embedding_BD)
        alike_BB = batch.targets_B[:, None] == batch.targets_B
        self_BB = torch.eye(len(apart_BB), dtype=torch.bool, device=apart_BB.device)
        farthest_B = apart_BB.masked_fill(~alike_BB | self_BB, -torch.inf).max(1).values
        nearest_B = apart_BB.masked_fill(alike_BB, torch.inf).min(1).values
        missed_B = (farthest_B - nearest_B + self.margin).clamp_min(0)
        return missed_B.sum() / (missed_B > 0).sum().clamp_min(1)


@loss_term(
    "nt_xent",
    needs=("embedding", "view"),
    options={"temperature": FloatRange(0.05, 0.5, step=0.05, initial=0.1)},
)
class NTXent(nn.Module):
    """Contrastive loss of two views of an example; labels are not used.

    Source: SimCLR, Chen et al. 2020, arXiv:2002.05709.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        from pytorch_metric_learning.losses import NTXentLoss  # noqa: PLC0415 - takes a second

        self.loss = NTXentLoss(temperature=temperature)

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over both views of all examples, a scalar."""
        view = second_view_output(batch)
        both = torch.cat([output.embedding_BD, view.embedding_BD]).float()
        each = torch.arange(len(output.embedding_BD), device=both.device).repeat(2)
        loss: Tensor = self.loss(both, each)
        return loss


@loss_term("clip", needs=("towers",))
class Clip(nn.Module):
    """Contrastive loss between two streams: each identifies its partner in the batch.

    The temperature is learned. Source: Radford et al. 2021, arXiv:2103.00020, figure 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:  # noqa: ARG002 - as every term
        """Return the mean over both directions and the batch, a scalar."""
        first_BD, second_BD = output.towers
        with torch.no_grad():  # outside the graph: the gradient of a clamped parameter is zero
            self.log_scale.clamp_(COLDEST, MAX_LOG_SCALE)
        logits_BB = self.log_scale.exp() * first_BD.float() @ second_BD.float().T
        each_B = torch.arange(len(logits_BB), device=logits_BB.device)
        there = functional.cross_entropy(logits_BB, each_B)
        return (there + functional.cross_entropy(logits_BB.T, each_B)) / 2


def second_view_output(batch: Batch) -> ModelOutput:
    """Return the network's output for the second view.

    Raises:
        ValueError: There is no second view.
    """
    if batch.view is None:
        raise ValueError("this loss term needs a second view of the batch")
    return batch.view
