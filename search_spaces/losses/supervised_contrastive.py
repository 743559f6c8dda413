"""Supervised contrastive loss on the embedding (Khosla et al. 2020, arXiv:2004.11362)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.domains import FloatRange
from search_spaces.loss_terms import loss_term
from search_spaces.model_output import Batch, ModelOutput


@loss_term(
    "supervised_contrastive",
    needs=("embedding", "labels"),
    options={"temperature": FloatRange(0.05, 0.5, step=0.05, initial=0.1)},
)
class SupervisedContrastive(nn.Module):
    """Attracts embeddings of the same class and repels others, by cosine similarity."""

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over examples with another one of their class.

        It is 0 in a batch without a pair, or of one class.
        """
        # Masks instead of indexing, whose result size would make the host wait for the GPU.
        embedding_BD = functional.normalize(output.embedding_BD.float(), dim=1)
        similar_BB = embedding_BD @ embedding_BD.T / self.temperature
        alike_BB = batch.targets_B[:, None] == batch.targets_B
        self_BB = torch.eye(len(similar_BB), dtype=torch.bool, device=similar_BB.device)
        others_BB = similar_BB.masked_fill(self_BB, torch.finfo(similar_BB.dtype).min)
        log_p_BB = similar_BB - others_BB.logsumexp(1, keepdim=True)
        pairs_BB = alike_BB & ~self_BB
        partners_B = pairs_BB.sum(1)
        loss_B = -(log_p_BB * pairs_BB).sum(1) / partners_B.clamp_min(1)
        mean = loss_B.sum() / (partners_B > 0).sum().clamp_min(1)
        return torch.where(alike_BB.all(), 0.0, mean)
