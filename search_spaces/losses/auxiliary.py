"""Deep supervision: cross-entropy on the auxiliary heads (Szegedy et al. 2015, arXiv:1409.4842)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.loss_terms import loss_term
from search_spaces.model_output import Batch, ModelOutput


@loss_term("auxiliary", needs=("auxiliary",))
class Auxiliary(nn.Module):
    """Mean cross-entropy of the auxiliary heads; 0 for a network without them."""

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Return the mean over heads and batch, a scalar."""
        if not output.auxiliary:
            return output.logits_BK.sum() * 0
        losses = [
            functional.cross_entropy(logits_BK, batch.targets_B) for logits_BK in output.auxiliary
        ]
        return torch.stack(losses).mean()
