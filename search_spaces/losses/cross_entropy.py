"""Cross-entropy with label smoothing (Szegedy et al. 2016, arXiv:1512.00567)."""

from torch import Tensor, nn
from torch.nn import functional

from search_spaces.domains import FloatRange
from search_spaces.loss_terms import loss_term
from search_spaces.model_output import Batch, ModelOutput


@loss_term(
    "cross_entropy",
    needs=("logits",),
    options={"smoothing": FloatRange(0.0, 0.2, step=0.05, initial=0.1)},
)
class CrossEntropy(nn.Module):
    """Negative log-likelihood with smoothed labels."""

    def __init__(self, *, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over the batch, a scalar."""
        return functional.cross_entropy(
            output.logits_BK, batch.targets_B, label_smoothing=self.smoothing
        )
