"""Gradient accumulation: number of batches per optimizer step, and the gradient's noise scale.

The noise of a batch's gradient is estimated from the norms of the single batches' gradients and of
their mean over the step (McCandlish et al. 2018, arXiv:1812.06162, appendix A). If the recipe
adapts the number of batches, it doubles when the remaining noise of a step passes a threshold and
halves when it falls.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces.recipe import Recipe

VARIANCE_THRESHOLD = 8.0
"""Relative variance of a step's gradient (variance over squared mean) above which more batches are
accumulated. A step with relative variance r needs 1 + 1 / r times the minimum number of examples
for the same progress (section 2 of the source), so doubling costs at most a quarter more."""
MAX_FACTOR = 8
"""Maximum number of batches per step over the recipe's."""
PROBE_INTERVAL = 8
"""Interval of steps that take at least two batches: one gradient has no variance estimate."""
FORECAST_RATE = 0.05
"""Learning rate of the variance forecast."""
EMA_DECAY = 0.95
"""Decay of the running means per measured step. A single step's estimate is off by a factor of a
few, too imprecise to adapt to."""
MAX_NOISE = 1e6
"""Relative variance reported for a gradient without a measurable mean."""


class Accumulation(nn.Module):
    """Gradient accumulation over batches; a module, so that checkpoints contain its state."""

    memory: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.min_batches = recipe.accumulation
        self.adapts = recipe.accumulation_rule != "fixed"
        self.forecast = VarianceForecast() if recipe.accumulation_rule == "forecast" else None
        # Batches per step, steps so far, running noise and signal, measured steps. The buffer's
        # name is a key of checkpoints.
        self.register_buffer(
            "memory", torch.tensor([self.min_batches, 0, 0, 0, 0], dtype=torch.float64)
        )
        self.sums: dict[nn.Parameter, Tensor] = {}
        self.weights: list[float] = []
        self.norms: list[Tensor] = []
        self.records: list[tuple[float, float, float, int]] = []

    @property
    def num_batches(self) -> int:
        """Number of batches of the current step."""
        batches, steps = int(self.memory[0]), int(self.memory[1])
        return max(batches, 2) if self.adapts and steps % PROBE_INTERVAL == 0 else batches

    def add(self, parameters: Sequence[nn.Parameter], weight: float = 1.0) -> None:
        """Move a batch's gradient into the step's sum, if the step takes several batches.

        The next batch starts from zero, so its norm needs no copy; `end_step` restores the sum.

        Args:
            parameters: All trained parameters.
            weight: Size of the batch relative to a full one: all examples of a step count equally.
        """
        if self.num_batches < 2:
            return
        self.weights.append(weight)
        self.norms.append(squared_norm(parameters))
        for parameter in parameters:
            if parameter.grad is None:
                continue
            if parameter in self.sums:
                self.sums[parameter].add_(parameter.grad, alpha=weight)
            else:
                self.sums[parameter] = parameter.grad * weight
            parameter.grad = None

    def end_step(self, number: int, parameters: Sequence[nn.Parameter]) -> None:
        """Restore the sum of the gradients, and adapt the number of batches of the next step.

        Args:
            number: Number of batches in the step.
            parameters: All trained parameters.
        """
        self.memory[1] += 1
        for parameter, total in self.sums.items():
            parameter.grad = total.mul_(number / math.fsum(self.weights))
        self.sums.clear()
        # Batches of different sizes have different noise.
        measured = number > 1 and min(self.weights) == max(self.weights)
        self.weights.clear()
        if measured:
            self._measure(number, float(squared_norm(parameters)) / number**2)
        self.norms.clear()
        if self.memory[4] > 0:
            noise, signal = self.memory[2:4].tolist()
            self.records.append((noise, signal, noise / number, number))
        if measured and self.adapts:
            self._adapt()

    def end_epoch(self) -> dict[str, float]:
        """Return the epoch's metrics and reset them.

        Returns:
            `gradient/variance`: relative variance of one batch's gradient;
            `gradient/step_variance`: that of the step's gradient; `gradient/batches`: mean number
            of batches per step. Empty until a step has taken two batches.
        """
        if not self.records:
            return {}
        noise, signal, left, batches = map(math.fsum, zip(*self.records, strict=True))
        count = len(self.records)
        self.records.clear()
        return {
            "gradient/variance": relative(noise, signal),
            "gradient/step_variance": relative(left, signal),
            "gradient/batches": batches / count,
        }

    def _measure(self, number: int, mean: float) -> None:
        """Update the running noise and signal from a step's norms.

        A single step's signal may be negative; clamping it would bias the mean.
        """
        every = float(torch.stack(self.norms).mean())
        noise = (every - mean) / (1 - 1 / number)
        signal = (number * mean - every) / (number - 1)
        measured = torch.tensor([noise, signal], dtype=torch.float64)
        self.memory[2:4] = self.memory[2:4] * EMA_DECAY + (1 - EMA_DECAY) * measured
        self.memory[4] += 1

    def _adapt(self) -> None:
        expected = relative(*self.memory[2:4].tolist())
        if self.forecast is not None:
            expected = self.forecast(expected)
        batches = int(self.memory[0])
        if expected / batches > VARIANCE_THRESHOLD:
            batches = min(2 * batches, MAX_FACTOR * self.min_batches)
        elif (
            expected / batches < VARIANCE_THRESHOLD / 4
        ):  # with half the batches it would still be below
            batches = max(batches // 2, self.min_batches)
        self.memory[0] = batches


class VarianceForecast(nn.Module):
    """A small LSTM that predicts the gradient's variance online during training.

    It reads the log variance at each measured step and predicts the change to the next; when that
    is measured, it takes one step of gradient descent.
    """

    state: Tensor
    last: Tensor

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(1, width)
        self.read = nn.Linear(width, 1)
        nn.init.zeros_(self.read.weight)  # the initial prediction is no change
        nn.init.zeros_(self.read.bias)
        self.register_buffer("state", torch.zeros(2, 1, width))
        self.register_buffer("last", torch.full((1, 1), math.nan))

    def forward(self, variance: float) -> float:
        """Return the variance predicted for the next measured step."""
        current = torch.full((1, 1), math.log(max(variance, 1e-6)))
        if not bool(self.last.isnan()):
            self._correct(current)
        self.last.copy_(current)
        with torch.no_grad():
            change = self.read(self._next()[0])
        return math.exp(min(float(current + change), math.log(MAX_NOISE)))

    def _correct(self, current: Tensor) -> None:
        """Update the weights from the error of the last prediction, then advance the state."""
        parameters = list(self.parameters())
        with torch.enable_grad():
            loss = (self.last + self.read(self._next()[0]) - current).square().sum()
            gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(FORECAST_RATE * gradient.clamp(-1, 1))
            self.state.copy_(torch.stack(self._next()))

    def _next(self) -> tuple[Tensor, Tensor]:
        hidden, cell = self.cell(self.last, (self.state[0], self.state[1]))
        return hidden, cell


def relative(noise: float, signal: float) -> float:
    """Return a variance over a squared mean, at most `MAX_NOISE`; both are noisy estimates."""
    if signal > 0:
        return min(max(noise, 0.0) / signal, MAX_NOISE)
    return MAX_NOISE if noise > 0 else 0.0


def squared_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the squared norm of all gradients together, a scalar on their device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(gradients)  # noqa: SLF001 - what torch's own clipping calls
    return torch.stack(list(norms)).double().square().sum()
