"""The optimizer of a recipe: which parameters decay, and its memory as named tensors.

Knows parameters; neither data nor losses.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from search_spaces.recipe import Recipe
from workers.training import schedules

SECOND_MOMENT = 0.99
"""AdamW's second beta: 0.999 would average over a thousand steps, as many as a short trial has."""
DECAYING = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,  # noqa: SLF001 - what all convolutions have in common
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
"""Modules whose weights decay. By type, not by dimensions: a scale of each channel, a table of
positions or a bias of each token may be a matrix, and fades away if it decays."""


class Optimization:
    """Steps all that learns along a recipe's schedule."""

    def __init__(self, learners: Sequence[nn.Module], recipe: Recipe, num_steps: int) -> None:
        self.recipe = recipe
        self.num_steps = num_steps
        self.parameters = [p for one in learners for p in one.parameters() if p.requires_grad]
        decaying = {id(p) for one in learners for p in _decaying(one)}
        self.optimizer = _optimizer(
            [p for p in self.parameters if id(p) in decaying],
            [p for p in self.parameters if id(p) not in decaying],
            recipe,
        )

    def step(self, number: float, num_batches: int = 1) -> None:
        """Clip the gradients, change the parameters once, and drop the gradients.

        Args:
            number: Counts steps over the whole budget, from 0; a fraction where their size varies.
            num_batches: How many batches' gradients were added up; their mean is stepped along.
        """
        if num_batches > 1:
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            torch._foreach_div_(gradients, num_batches)
        rate = schedules.learning_rate(self.recipe, number, self.num_steps)
        momentum = schedules.momentum(self.recipe, number, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            if "betas" in group:
                group["betas"] = (momentum, SECOND_MOMENT)
            else:
                group["momentum"] = momentum
        if self.recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.gradient_clip, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def memory(self) -> dict[str, Tensor]:
        """What the optimizer remembers of earlier steps, by a name of its own for each tensor."""
        return {
            f"{index}.{name}": value
            for index, parameter in enumerate(self.parameters)
            for name, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Take up the memory that `memory` gave."""
        for key, value in memory.items():
            index, name = key.split(".", 1)
            if int(index) >= len(self.parameters):
                continue  # of log-variances, which were parameters once: they came last
            parameter = self.parameters[int(index)]
            own = value.to(parameter.device, copy=True)
            if value.shape == parameter.shape:
                # Fused kernels walk raw memory: it must lie as the parameter's does.
                own = torch.empty_like(parameter, requires_grad=False).copy_(value)
            self.optimizer.state[parameter][name] = own


def _decaying(learner: nn.Module) -> Iterator[nn.Parameter]:
    """The matrices and kernels of its layers."""
    for module in learner.modules():
        if isinstance(module, DECAYING):
            for name, parameter in module.named_parameters(recurse=False):
                if "weight" in name and parameter.ndim >= 2:
                    yield parameter


def _optimizer(
    decaying: list[nn.Parameter], spared: list[nn.Parameter], recipe: Recipe
) -> torch.optim.Optimizer:
    groups = [
        {"params": decaying, "weight_decay": recipe.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # One fused call a step; a Python loop over parameters would cost more than a small network.
    if recipe.optimizer == "adamw":
        betas = (recipe.momentum, SECOND_MOMENT)
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=betas, fused=True)
    return torch.optim.SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=True,
    )
