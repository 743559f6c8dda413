"""How many batches' gradients are averaged for one step of the optimizer, and how noisy they are.

The noise of a batch's gradient is measured from the norms of every batch's own gradient and of
their mean over the step (McCandlish et al. 2018, arXiv:1812.06162, appendix A). Where the recipe
lets the number of batches adapt, it doubles as the noise that is left in a step passes a threshold
and halves again as it falls. Knows gradients; neither data nor losses.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces.recipe import Recipe

VARIANCE_THRESHOLD = 8.0
"""Variance of a step's gradient over its squared mean at which more batches are averaged. A step
with r of it needs 1 + 1 / r times the fewest examples for the same progress (section 2 of the
source above), so that twice the batches cost at most a quarter more examples than the fewest."""
MAX_FACTOR = 8
"""How many times the recipe's own number of batches a step may take."""
PROBE = 8
"""Every so many steps of one batch take two: one gradient alone says nothing of its variance."""
FORECAST_RATE = 0.05
"""Learning rate of the forecast."""
EMA_DECAY = 0.95
"""Share of the running means that stays at every measured step. One step alone tells the signal to
a few times its size, too little to choose by."""
MAX_NOISE = 1e6
"""What is told for a gradient without a signal that could be measured."""


class Accumulation(nn.Module):
    """Counts batches into steps; a module, so that checkpoints keep what it has seen."""

    memory: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.fewest = recipe.accumulation
        self.adapts = recipe.accumulation_rule != "fixed"
        self.forecast = VarianceForecast() if recipe.accumulation_rule == "forecast" else None
        # Batches a step, steps so far, running noise and signal, measured steps.
        self.register_buffer("memory", torch.tensor([self.fewest, 0, 0, 0, 0], dtype=torch.float64))
        self.sums: dict[nn.Parameter, Tensor] = {}
        self.weights: list[float] = []
        self.norms: list[Tensor] = []
        self.seen: list[tuple[float, float, float, int]] = []

    @property
    def wanted(self) -> int:
        """How many batches the step under way takes."""
        batches, steps = int(self.memory[0]), int(self.memory[1])
        return max(batches, 2) if self.adapts and steps % PROBE == 0 else batches

    def add(self, parameters: Sequence[nn.Parameter], weight: float = 1.0) -> None:
        """Take the gradient of one more of the step's batches aside, where it takes several.

        The next batch's then stands alone, and its norm costs no copy; `end_step` brings the sum.

        Args:
            parameters: All that learn.
            weight: Number of the batch's examples relative to a whole batch: each example of a step
                counts alike.
        """
        if self.wanted < 2:
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
        """Bring back the sum of so many batches' gradients, and choose how many the next takes."""
        self.memory[1] += 1
        for parameter, total in self.sums.items():
            parameter.grad = total.mul_(number / math.fsum(self.weights))
        self.sums.clear()
        # The noise of batches of unlike sizes is unlike.
        measured = number > 1 and min(self.weights) == max(self.weights)
        self.weights.clear()
        if measured:
            self._measure(number, float(squared_norm(parameters)) / number**2)
        self.norms.clear()
        if self.memory[4] > 0:
            noise, signal = self.memory[2:4].tolist()
            self.seen.append((noise, signal, noise / number, number))
        if measured and self.adapts:
            self._adapt()

    def end_epoch(self) -> dict[str, float]:
        """What the epoch's steps came to, and a beginning for the next.

        Returns:
            `gradient/variance`: the mean variance of one batch's gradient over its mean squared
            mean; `gradient/step_variance`: the same of what the optimizer stepped along;
            `gradient/batches`: how many batches a step took on average. Nothing as long as no step
            took two.
        """
        if not self.seen:
            return {}
        noise, signal, left, batches = map(math.fsum, zip(*self.seen, strict=True))
        count = len(self.seen)
        self.seen.clear()
        return {
            "gradient/variance": relative(noise, signal),
            "gradient/step_variance": relative(left, signal),
            "gradient/batches": batches / count,
        }

    def _measure(self, number: int, mean: float) -> None:
        """Move the running noise and signal by what a step's norms say.

        A single step's signal may be negative: clamped, it would not average to the true one.
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
            batches = min(2 * batches, MAX_FACTOR * self.fewest)
        elif expected / batches < VARIANCE_THRESHOLD / 4:  # half of it would still be quiet
            batches = max(batches // 2, self.fewest)
        self.memory[0] = batches


class VarianceForecast(nn.Module):
    """A small LSTM that learns, while a network trains, what its gradient's variance is next.

    It reads the logarithm of the variance at each measured step, and answers by how much the next
    will differ; when that comes in, it is corrected by one step of plain gradient descent.
    """

    state: Tensor
    last: Tensor

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(1, width)
        self.read = nn.Linear(width, 1)
        nn.init.zeros_(self.read.weight)  # begins by expecting no change
        nn.init.zeros_(self.read.bias)
        self.register_buffer("state", torch.zeros(2, 1, width))
        self.register_buffer("last", torch.full((1, 1), math.nan))

    def forward(self, variance: float) -> float:
        """The variance expected at the next measured step."""
        seen = torch.full((1, 1), math.log(max(variance, 1e-6)))
        if not bool(self.last.isnan()):
            self._correct(seen)
        self.last.copy_(seen)
        with torch.no_grad():
            change = self.read(self._next()[0])
        return math.exp(min(float(seen + change), math.log(MAX_NOISE)))

    def _correct(self, seen: Tensor) -> None:
        """Learn from what came after the last answer, then take that answer's place in time."""
        learners = list(self.parameters())
        with torch.enable_grad():
            missed = (self.last + self.read(self._next()[0]) - seen).square().sum()
            gradients = torch.autograd.grad(missed, learners)
        with torch.no_grad():
            for parameter, gradient in zip(learners, gradients, strict=True):
                parameter.sub_(FORECAST_RATE * gradient.clamp(-1, 1))
            self.state.copy_(torch.stack(self._next()))

    def _next(self) -> tuple[Tensor, Tensor]:
        hidden, cell = self.cell(self.last, (self.state[0], self.state[1]))
        return hidden, cell


def relative(noise: float, signal: float) -> float:
    """A variance over a squared mean, at most `MOST_NOISE`; both may be off by chance."""
    if signal > 0:
        return min(max(noise, 0.0) / signal, MAX_NOISE)
    return MAX_NOISE if noise > 0 else 0.0


def squared_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The squared length of all gradients together, a scalar on their device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(gradients)  # noqa: SLF001 - what torch's own clipping calls
    return torch.stack(list(norms)).double().square().sum()
