"""Balancers that use only the values of the losses: one backward pass in all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# K terms

TEMPERATURE = 2.0
"""Temperature of the softmax of `DynamicAverage`; higher is more even; the paper's value."""
RATE = 0.025
"""Learning rate of `Uncertainty`'s log-variances, as of `GradNorm`'s weights. It is fixed because
the network's learning rate, which a search samples, may be high enough to make them diverge."""
MAX_LOG_VARIANCE = 3.0
"""Maximum absolute log-variance of `Uncertainty`: factors are between 0.05 and 20."""
MAX_RATIO = 2.0
"""Maximum ratio of means in `DynamicAverage`: a term that rises from almost zero would otherwise
suppress all others for an epoch."""


class Fixed(nn.Module):
    """Uses the decided weights."""

    runs = True
    initial_weights_K: Tensor

    def __init__(self, initial_weights_K: Tensor) -> None:
        super().__init__()
        self.register_buffer("initial_weights_K", initial_weights_K, persistent=False)

    def backward(
        self,
        losses: Sequence[Tensor],
        parameters: Sequence[nn.Parameter],  # noqa: ARG002 - as every balancer
    ) -> Tensor:
        """Backpropagate the weighted sum."""
        total = (torch.stack(list(losses)) * self.initial_weights_K).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return self.initial_weights_K

    def end_epoch(self, means_K: Tensor) -> None:
        """Do nothing: there is no state."""


class Uncertainty(nn.Module):
    """Learns a log-variance s of each term and weights it by exp(-s) (Kendall et al. 2018).

    Minimizes the sum over terms of w (exp(-s) L + s) with the decided weights w: at convergence
    exp(-s) L is 1, and w is the contribution of each term. Each s follows its own gradient, by at
    most `RATE` per batch; that of a term with value zero, such as one that does not count yet, is
    unchanged. Source: arXiv:1705.07115, equation 7, without its factors of one half.
    """

    runs = False
    initial_weights_K: Tensor
    log_variance_K: Tensor

    def __init__(self, initial_weights_K: Tensor) -> None:
        super().__init__()
        self.register_buffer("initial_weights_K", initial_weights_K, persistent=False)
        self.register_buffer("log_variance_K", torch.zeros_like(initial_weights_K))

    def backward(
        self,
        losses: Sequence[Tensor],
        parameters: Sequence[nn.Parameter],  # noqa: ARG002 - as every balancer
    ) -> Tensor:
        """Backpropagate with the current variances, then update them."""
        factors_K = torch.exp(-self.log_variance_K)
        weights_K = self.initial_weights_K * factors_K
        losses_K = torch.stack(list(losses))
        (weights_K * losses_K).sum().backward()  # type: ignore[no-untyped-call]
        losses_K = losses_K.detach()
        gradient_K = torch.where(losses_K == 0, 0.0, 1 - factors_K * losses_K)
        moved_K = self.log_variance_K - RATE * gradient_K.clamp(-1, 1)
        self.log_variance_K.copy_(moved_K.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE))
        return weights_K

    def end_epoch(self, means_K: Tensor) -> None:
        """Do nothing: the variances are the only state."""


class DynamicAverage(nn.Module):
    """Gives more weight to terms that decreased less between the last two epochs (Liu et al. 2019).

    Source: arXiv:1803.10704, equation 7; the first two epochs use the decided weights.
    """

    runs = True
    initial_weights_K: Tensor
    means_2K: Tensor

    def __init__(self, initial_weights_K: Tensor) -> None:
        super().__init__()
        self.register_buffer("initial_weights_K", initial_weights_K, persistent=False)
        self.register_buffer("means_2K", torch.zeros(2, len(initial_weights_K)))

    def backward(
        self,
        losses: Sequence[Tensor],
        parameters: Sequence[nn.Parameter],  # noqa: ARG002 - as every balancer
    ) -> Tensor:
        """Backpropagate the sum, weighted by the changes of the last epochs."""
        weights_K = self.initial_weights_K * self._factors()
        (torch.stack(list(losses)) * weights_K).sum().backward()  # type: ignore[no-untyped-call]
        return weights_K

    def end_epoch(self, means_K: Tensor) -> None:
        """Store the last two epochs' means."""
        self.means_2K.copy_(torch.stack([self.means_2K[1], means_K]))

    def _factors(self) -> Tensor:
        older_K, newer_K = self.means_2K
        # A term that is always zero counts as unchanged.
        rates_K = torch.where(older_K == 0, 1.0, newer_K / older_K).clamp_max(MAX_RATIO)
        return len(newer_K) * torch.softmax(rates_K / TEMPERATURE, dim=0)
