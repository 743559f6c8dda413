"""Focal loss (Lin et al. 2017, arXiv:1708.02002), for one label an example."""

from torch import Tensor, nn
from torch.nn import functional

from search_spaces.domains import FloatRange
from search_spaces.loss_terms import loss_term
from search_spaces.model_output import Batch, ModelOutput


@loss_term(
    "focal", needs=("logits",), options={"gamma": FloatRange(0.5, 3.0, step=0.5, initial=2.0)}
)
class Focal(nn.Module):
    """Cross-entropy times (1 - p) ** gamma, which reduces the weight of easy examples."""

    def __init__(self, *, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over the batch, a scalar."""
        log_p_BK = functional.log_softmax(output.logits_BK.float(), dim=1)
        log_p_B = log_p_BK.gather(1, batch.targets_B[:, None]).squeeze(1)
        # Where p rounds to 1, the power of 1 - p = 0 has no finite gradient.
        miss_B = (-log_p_B.expm1()).clamp_min(1e-6)
        return -(miss_B**self.gamma * log_p_B).mean()
