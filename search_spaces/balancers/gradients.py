"""Balancers that compare the terms' gradients: one backward pass per term.

All methods need only the inner products of the gradients, their Gramian, so one class
backpropagates for all of them. The methods of Jacobian descent are those of torchjd.
"""

from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

# K terms

ASYMMETRY = 1.5
"""GradNorm's alpha: the strength of the restoring force; the paper's value."""
RATE = 0.025
"""GradNorm's learning rate; the paper's value."""

EPSILON = 1e-12
"""Squared norm of a gradient, relative to the largest, that counts as zero."""

Weigh = Callable[[Tensor, Tensor], Tensor]
"""Weights (K,) from the Gramian (K, K) of the gradients and the losses (K,), both scaled."""


class ByGradients(nn.Module):
    """Backpropagates each term separately, then adds the gradients with the weights of a method."""

    def __init__(self, weigh: Weigh, *, runs: bool = True) -> None:
        super().__init__()
        self.weigh = weigh
        self.runs = runs

    def backward(self, losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
        """Add the gradients, weighted by a function of their Gramian."""
        last = len(losses) - 1
        rows = [
            torch.autograd.grad(loss, parameters, retain_graph=k < last, materialize_grads=True)
            for k, loss in enumerate(losses)
        ]
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        gramian_KK = torch.stack([_gramian(column) for column in columns]).sum(0)
        losses_K = torch.stack([loss.detach() for loss in losses])
        weights_K = self.weigh(gramian_KK, losses_K).to(gramian_KK.device)
        for parameter, column in zip(parameters, columns, strict=True):
            if parameter.grad is None:
                # In the parameter's memory format, which fused optimizers require.
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad += torch.tensordot(weights_K.to(column.dtype), column, dims=1)
        return weights_K

    def end_epoch(self, means_K: Tensor) -> None:
        """Do nothing: there is no state."""


def _gramian(column: Tensor) -> Tensor:
    flat_KP = column.flatten(1)
    return flat_KP @ flat_KP.T


class GradNorm(nn.Module):
    """Balances gradient norms, with larger ones for terms that train slowly.

    Each step reduces the difference between each weighted gradient norm and the mean norm times the
    term's relative inverse training rate to the power alpha; then the weights are normalized to sum
    to one. Source: Chen et al. 2018, arXiv:1711.02257; here over all parameters instead of the last
    shared layer.
    """

    weights_K: Tensor
    first_K: Tensor

    def __init__(self, initial_weights_K: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights_K", initial_weights_K.clone())
        self.register_buffer("first_K", torch.zeros_like(initial_weights_K))

    def forward(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """Return the weights of this step, and update them for the next."""
        used_K = self.weights_K.clone()
        self.first_K.copy_(torch.where(self.first_K == 0, losses_K, self.first_K))
        norms_K = gramian_KK.diagonal().clamp_min(0).sqrt()
        # A term without a measurement counts as average.
        rates_K = torch.where(self.first_K == 0, 1.0, losses_K / self.first_K)
        pulls_K = used_K * norms_K
        targets_K = (rates_K / rates_K.mean().clamp_min(1e-12)) ** ASYMMETRY
        gradient_K = torch.sign(pulls_K - pulls_K.mean() * targets_K) * norms_K
        moved_K = used_K - RATE * gradient_K / norms_K.mean().clamp_min(1e-12) * used_K.mean()
        moved_K = moved_K.clamp_min(1e-4)
        self.weights_K.copy_(moved_K / moved_K.sum())
        return used_K


def _aggregation() -> ModuleType:
    from torchjd import aggregation  # noqa: PLC0415 - takes a second, for these alone

    return aggregation


def mgda() -> Weigh:
    """Return the convex combination of minimum norm (Désidéri 2012; Sener and Koltun 2018).

    It ignores the decided weights, and terms without a gradient, which would always be the minimum.
    Source: arXiv:1810.04650.
    """
    weighting = _aggregation().MGDAWeighting()

    def solve(gramian_KK: Tensor) -> Tensor:
        squares_K = gramian_KK.diagonal()
        nonzero_K = squares_K > EPSILON * squares_K.max()
        weights_K = torch.zeros_like(squares_K)
        weights_K[nonzero_K] = weighting(gramian_KK[nonzero_K][:, nonzero_K])
        return weights_K

    return _solved(solve)


def imtl_g() -> Weigh:
    """Return the combination with equal projections on all gradients (Liu et al. 2021).

    It ignores the decided weights. Source: ICLR 2021, "Towards impartial multi-task learning", the
    variant for gradients.
    """
    return _solved(_aggregation().IMTLGWeighting())


def pcgrad(initial_weights_K: Tensor) -> Weigh:
    """Return the sum of weighted gradients without their conflicting components (Yu et al. 2020).

    Source: arXiv:2001.06782.
    """
    weighting = _aggregation().PCGradWeighting()
    return _solved(
        lambda gramian_KK: (
            initial_weights_K
            * weighting(gramian_KK * torch.outer(initial_weights_K, initial_weights_K))
        )
    )


def aligned_mtl(initial_weights_K: Tensor) -> Weigh:
    """Return the weighted sum of orthogonalized gradients of equal norm (Senushkin et al. 2023).

    Source: arXiv:2305.19000.
    """
    return _solved(_aggregation().AlignedMTLWeighting(pref_vector=initial_weights_K))


def _solved(solve: Callable[[Tensor], Tensor]) -> Weigh:
    """Return the solver on the CPU: its many small steps are slow on a GPU."""

    def weigh(gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        gramian_KK = gramian_KK.cpu()
        if not bool(gramian_KK.isfinite().all()):
            # The training has diverged: solvers would fail, and NaN is detected later.
            return torch.full_like(losses_K, torch.nan)
        return solve(gramian_KK)

    return weigh
