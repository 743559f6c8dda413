"""Balancers that look at the losses' values alone: one backward pass, as without them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# K terms

TEMPERATURE = 2.0
"""How evenly `DynamicAverage` weighs; the paper's value."""
RATE = 0.025
"""Learning rate of `Uncertainty`'s log-variances, as of `GradNorm`'s weights: a rate of their own,
since the network's, which a search draws, may be high enough to throw them out of all bounds."""
FARTHEST = 3.0
"""Largest absolute log-variance of `Uncertainty`: factors stay between 0.05 and 20."""
FASTEST_RISE = 2.0
"""By what factor a term can have risen, for `DynamicAverage`: one that comes out of nothing would
silence all others for an epoch."""


class Fixed(nn.Module):
    """Leaves the weights as they were decided."""

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
        """Pass the weighted sum back."""
        (torch.stack(list(losses)) * self.initial_weights_K).sum().backward()  # type: ignore[no-untyped-call]
        return self.initial_weights_K

    def end_epoch(self, means_K: Tensor) -> None:
        """Nothing is remembered."""


class Uncertainty(nn.Module):
    """Learns a log-variance s for each term and weighs it by exp(-s) (Kendall et al. 2018).

    The sum over terms of w (exp(-s) L + s), w being the decided weight: where s has settled,
    exp(-s) L is 1, and the decided weights say what each term contributes. Each s goes down its
    own gradient, by at most `RATE` a batch; that of a term that is zero, as one is that does not
    count yet, stays. Source: arXiv:1705.07115, equation 7, without its halves.
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
        """Pass back what the terms give at the variances learnt so far, then learn those."""
        factors_K = torch.exp(-self.log_variance_K)
        weights_K = self.initial_weights_K * factors_K
        losses_K = torch.stack(list(losses))
        (weights_K * losses_K).sum().backward()  # type: ignore[no-untyped-call]
        losses_K = losses_K.detach()
        slope_K = torch.where(losses_K == 0, 0.0, 1 - factors_K * losses_K)
        moved_K = self.log_variance_K - RATE * slope_K.clamp(-1, 1)
        self.log_variance_K.copy_(moved_K.clamp(-FARTHEST, FARTHEST))
        return weights_K

    def end_epoch(self, means_K: Tensor) -> None:
        """Nothing is remembered beside the variances."""


class DynamicAverage(nn.Module):
    """Weighs most what fell least between the last two epochs (Liu et al. 2019).

    Source: arXiv:1803.10704, equation 7; the first two epochs keep the decided weights.
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
        """Pass back the sum, weighed by how the last epochs went."""
        weights_K = self.initial_weights_K * self._factors()
        (torch.stack(list(losses)) * weights_K).sum().backward()  # type: ignore[no-untyped-call]
        return weights_K

    def end_epoch(self, means_K: Tensor) -> None:
        """Keep the last two epochs' means."""
        self.means_2K.copy_(torch.stack([self.means_2K[1], means_K]))

    def _factors(self) -> Tensor:
        older_K, newer_K = self.means_2K
        # A term that is zero throughout falls neither fast nor slowly.
        rates_K = torch.where(older_K == 0, 1.0, newer_K / older_K).clamp_max(FASTEST_RISE)
        return len(newer_K) * torch.softmax(rates_K / TEMPERATURE, dim=0)
