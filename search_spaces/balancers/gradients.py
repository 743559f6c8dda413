"""Balancers that compare the terms' gradients: one backward pass a term.

Every method here decides from the inner products of the gradients alone, their Gramian, so that
one class passes gradients back for all of them. Those of Jacobian descent are torchjd's.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# K terms

ASYMMETRY = 1.5
"""GradNorm's alpha: how strongly terms that learn slowly are helped; the paper's value."""
RATE = 0.025
"""GradNorm's learning rate; the paper's value."""

EPSILON = 1e-12
"""Squared norm of a gradient, relative to the largest, below which it is rounding."""

Weigh = Callable[[Tensor, Tensor], Tensor]
"""Weights (K,) from the Gramian (K, K) of the gradients and the losses (K,), both on one scale."""


class ByGradients(nn.Module):
    """Passes every term back by itself, then adds the gradients up with a method's weights."""

    def __init__(self, weigh: Weigh, *, runs: bool = True) -> None:
        super().__init__()
        self.weigh = weigh
        self.runs = runs

    def backward(self, losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
        """Add up the gradients with the weights that their Gramian leads to."""
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
                # In the parameter's own layout: fused optimizers walk both in raw memory.
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad += torch.tensordot(weights_K.to(column.dtype), column, dims=1)
        return weights_K

    def end_epoch(self, means_K: Tensor) -> None:
        """Nothing is remembered."""


def _gramian(column: Tensor) -> Tensor:
    flat_KP = column.flatten(1)
    return flat_KP @ flat_KP.T


class GradNorm(nn.Module):
    """Moves the weights so that terms pull equally hard, those that lag behind harder.

    Every step lowers the distance of each weighted gradient's norm from the mean norm times the
    term's inverse training rate, relative to the others, to the power alpha; weights then sum to
    one again. Source: Chen et al. 2018, arXiv:1711.02257, over all that learns instead of the
    last shared layer.
    """

    weights_K: Tensor
    first_K: Tensor

    def __init__(self, initial_weights_K: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights_K", initial_weights_K.clone())
        self.register_buffer("first_K", torch.zeros_like(initial_weights_K))

    def forward(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights for this step; they have moved for the next."""
        used_K = self.weights_K.clone()
        self.first_K.copy_(torch.where(self.first_K == 0, losses_K, self.first_K))
        norms_K = gramian_KK.diagonal().clamp_min(0).sqrt()
        # A term that has not been heard yet lags no more than the others.
        rates_K = torch.where(self.first_K == 0, 1.0, losses_K / self.first_K)
        pulls_K = used_K * norms_K
        lagging_K = (rates_K / rates_K.mean().clamp_min(1e-12)) ** ASYMMETRY
        slope_K = torch.sign(pulls_K - pulls_K.mean() * lagging_K) * norms_K
        moved_K = used_K - RATE * slope_K / norms_K.mean().clamp_min(1e-12) * used_K.mean()
        moved_K = moved_K.clamp_min(1e-4)
        self.weights_K.copy_(moved_K / moved_K.sum())
        return used_K


def mgda() -> Weigh:
    """The convex combination of least norm (Désidéri 2012; Sener and Koltun 2018).

    The decided weights have no say in it; nor has a term without a gradient, which would always
    be the shortest. Source: arXiv:1810.04650.
    """
    from torchjd.aggregation import MGDAWeighting  # noqa: PLC0415 - loaded where it is used

    weighting = MGDAWeighting()

    def solve(gramian_KK: Tensor) -> Tensor:
        squares_K = gramian_KK.diagonal()
        heard_K = squares_K > EPSILON * squares_K.max()
        weights_K = torch.zeros_like(squares_K)
        weights_K[heard_K] = weighting(gramian_KK[heard_K][:, heard_K])
        return weights_K

    return _solved(solve)


def imtl_g() -> Weigh:
    """The combination on which all gradients project equally (Liu et al. 2021).

    The decided weights have no say in it. Source: ICLR 2021, "Towards impartial multi-task
    learning", the part for gradients.
    """
    from torchjd.aggregation import IMTLGWeighting  # noqa: PLC0415 - as above

    return _solved(IMTLGWeighting())


def pcgrad(initial_weights_K: Tensor) -> Weigh:
    """Every weighted gradient without what conflicts with another (Yu et al. 2020).

    Source: arXiv:2001.06782.
    """
    from torchjd.aggregation import PCGradWeighting  # noqa: PLC0415 - as above

    weighting = PCGradWeighting()
    return _solved(
        lambda gramian_KK: (
            initial_weights_K
            * weighting(gramian_KK * torch.outer(initial_weights_K, initial_weights_K))
        )
    )


def aligned_mtl(initial_weights_K: Tensor) -> Weigh:
    """Gradients made orthogonal and equally long, added by the weights (Senushkin et al. 2023).

    Source: arXiv:2305.19000.
    """
    from torchjd.aggregation import AlignedMTLWeighting  # noqa: PLC0415 - as above

    return _solved(AlignedMTLWeighting(pref_vector=initial_weights_K))


def _solved(solve: Callable[[Tensor], Tensor]) -> Weigh:
    """The weights that a solver finds on the CPU, where its many small steps wait for no device."""

    def weigh(gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        gramian_KK = gramian_KK.cpu()
        if not bool(gramian_KK.isfinite().all()):
            # It has diverged: what solvers would choke on is passed on, for others to see.
            return torch.full_like(losses_K, torch.nan)
        return solve(gramian_KK)

    return weigh
