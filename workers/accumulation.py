"""How many batches' gradients are averaged for one step of the optimizer, and how noisy they are.

The noise of a batch's gradient is measured from two norms that are there anyway, of the first batch
alone and of the mean over the step (McCandlish et al. 2018, arXiv:1812.06162, appendix A). Where
the recipe lets the number of batches adapt, it doubles as the noise that is left in a step passes
a threshold and halves again as it falls. Knows gradients; neither data nor losses.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces.recipe import Recipe

NOISY = 8.0
"""Variance of a step's gradient over its squared mean at which more batches are averaged. A step
with r of it needs 1 + 1 / r times the fewest examples for the same progress (section 2 of the
source above), so that twice the batches cost at most a quarter more examples than the fewest."""
MOST = 8
"""How many times the recipe's own number of batches a step may take."""
PROBE = 8
"""Every so many steps of one batch take two: one gradient alone says nothing of its variance."""
FORECAST_RATE = 0.05
"""Learning rate of the forecast."""
MEMORY = 0.9
"""Share of the running means that stays at every measured step."""


class Accumulation(nn.Module):
    """Counts batches into steps; a module, so that checkpoints keep what it has seen."""

    memory: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.fewest = recipe.accumulation
        self.adapts = recipe.accumulation_rule != "fixed"
        self.forecast = Forecast() if recipe.accumulation_rule == "forecast" else None
        # Batches a step, steps so far, running noise and signal, measured steps.
        self.register_buffer("memory", torch.tensor([self.fewest, 0, 0, 0, 0], dtype=torch.float64))
        self.first = 0.0
        self.seen: list[tuple[float, float, int]] = []

    @property
    def wanted(self) -> int:
        """How many batches the step under way takes."""
        batches, steps = int(self.memory[0]), int(self.memory[1])
        return max(batches, 2) if self.adapts and steps % PROBE == 0 else batches

    def add(self, number: int, parameters: Sequence[nn.Parameter]) -> None:
        """Take note that the gradient of the step's batch `number`, from 1, has been added."""
        if number == 1 and self.wanted > 1:
            self.first = squared_norm(parameters)

    def end_step(self, number: int, parameters: Sequence[nn.Parameter]) -> None:
        """Measure the noise of a step of so many batches, and choose how many the next takes."""
        self.memory[1] += 1
        if number < 2:
            return
        mean = squared_norm(parameters) / number**2
        noise = max(0.0, (self.first - mean) / (1 - 1 / number))
        signal = max(0.0, (number * mean - self.first) / (number - 1))
        self.memory[2:4] = self.memory[2:4] * MEMORY + (1 - MEMORY) * torch.tensor(
            [noise, signal], dtype=torch.float64
        )
        self.memory[4] += 1
        self.seen.append((self._relative(), self._relative() / number, number))
        if self.adapts:
            self._adapt()

    def end_epoch(self) -> dict[str, float]:
        """What the epoch's measured steps came to on average, and a beginning for the next.

        Returns:
            `gradient/variance`: of one batch's gradient as a multiple of its squared mean;
            `gradient/step_variance`: the same of what the optimizer stepped along;
            `gradient/batches`: how many batches a measured step took. Nothing where no step took
            two.
        """
        if not self.seen:
            return {}
        before, after, batches = (math.fsum(part) for part in zip(*self.seen, strict=True))
        count = len(self.seen)
        self.seen.clear()
        names = ("gradient/variance", "gradient/step_variance", "gradient/batches")
        return dict(zip(names, (before / count, after / count, batches / count), strict=True))

    def _relative(self) -> float:
        """The running variance of one batch's gradient over its running squared mean."""
        noise, signal = self.memory[2:4].tolist()
        return min(noise / signal, 1e6) if signal > 0 else (1e6 if noise > 0 else 0.0)

    def _adapt(self) -> None:
        expected = self._relative()
        if self.forecast is not None:
            expected = self.forecast(expected)
        batches = int(self.memory[0])
        if expected / batches > NOISY:
            batches = min(2 * batches, MOST * self.fewest)
        elif expected / batches < NOISY / 4:  # half of it would still be quiet
            batches = max(batches // 2, self.fewest)
        self.memory[0] = batches


class Forecast(nn.Module):
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
        return math.exp(min(float(seen + change), math.log(1e6)))

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


def squared_norm(parameters: Sequence[nn.Parameter]) -> float:
    """The squared length of all gradients together."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(gradients)  # noqa: SLF001 - what torch's own clipping calls
    return float(torch.stack(list(norms)).double().square().sum())
