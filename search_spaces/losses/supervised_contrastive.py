"""Supervised contrastive loss on the embedding (Khosla et al. 2020, arXiv:2004.11362)."""

from torch import Tensor, nn

from search_spaces.domains import FloatRange
from search_spaces.loss_weights import loss_term
from search_spaces.model_output import Batch, ModelOutput


@loss_term(
    "supervised_contrastive",
    needs=("embedding", "labels"),
    options={"temperature": FloatRange(0.05, 0.5, step=0.05, initial=0.1)},
)
class SupervisedContrastive(nn.Module):
    """Pulls embeddings of one class together and pushes others away, by cosine similarity.

    The arithmetic is pytorch-metric-learning's SupConLoss; the embedding is normalised there.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        # Loaded where the term is used: the package takes a second to import.
        from pytorch_metric_learning.losses import SupConLoss  # noqa: PLC0415

        self.loss = SupConLoss(temperature=temperature)

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The mean over examples with a partner of their class; zero in a batch without any."""
        loss: Tensor = self.loss(output.embedding_BD.float(), batch.targets_B)
        return loss
