"""Terms that compare examples with each other: triplets, two views of one, two streams of one.

Embeddings are brought to length 1 first.
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
"""The largest logarithm of CLIP's inverse temperature, as in its paper."""
COLDEST = 0.0
"""The least: far below, all pairs look alike, and no gradient would lead back."""


@loss_term(
    "triplet",
    needs=("embedding", "labels"),
    options={"margin": FloatRange(0.05, 0.5, step=0.05, initial=0.2)},
)
class Triplet(nn.Module):
    """Each example nearer to its farthest of one class than to its nearest of another, by a margin.

    Source: Hermans et al. 2017, arXiv:1703.07737, "batch hard".
    """

    def __init__(self, *, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The mean over the triplets that miss the margin; zero where none does."""
        # With masks, never by picking: a GPU's host would wait to hear how many were picked.
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
    """Two views of one example together, all others apart; labels are not looked at.

    Source: SimCLR, Chen et al. 2020, arXiv:2002.05709.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        # Loaded where the term is used: the package takes a second to import.
        from pytorch_metric_learning.losses import NTXentLoss  # noqa: PLC0415

        self.loss = NTXentLoss(temperature=temperature)

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The mean over both views of all examples, a scalar."""
        view = seen(batch)
        both = torch.cat([output.embedding_BD, view.embedding_BD]).float()
        each = torch.arange(len(output.embedding_BD), device=both.device).repeat(2)
        loss: Tensor = self.loss(both, each)
        return loss


@loss_term("clip", needs=("towers",))
class Clip(nn.Module):
    """Each example's two streams find each other among the batch's, either way round.

    The temperature is learnt. Source: Radford et al. 2021, arXiv:2103.00020, figure 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:  # noqa: ARG002 - as every term
        """The mean over both directions and the batch, a scalar."""
        first_BD, second_BD = output.towers
        with torch.no_grad():  # not in the graph: a clamped parameter would never come back
            self.log_scale.clamp_(COLDEST, MAX_LOG_SCALE)
        logits_BB = self.log_scale.exp() * first_BD.float() @ second_BD.float().T
        each_B = torch.arange(len(logits_BB), device=logits_BB.device)
        there = functional.cross_entropy(logits_BB, each_B)
        return (there + functional.cross_entropy(logits_BB.T, each_B)) / 2


def seen(batch: Batch) -> ModelOutput:
    """What the network gives for the batch's second view.

    Raises:
        ValueError: Whoever asks for the loss gave none.
    """
    if batch.view is None:
        raise ValueError("this loss term needs a second view of the batch")
    return batch.view
