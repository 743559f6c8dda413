"""Optimizer of a recipe: parameter groups with and without weight decay, schedules, and state."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from search_spaces.recipe import Recipe
from workers.training import schedules

SECOND_MOMENT = 0.99
"""AdamW's beta2: 0.999 would average over a thousand steps, as many as a short trial has."""
DECAYING = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,  # noqa: SLF001 - the base class of all convolutions
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
"""Modules whose weights decay. By type, not by dimensions: a scale per channel, a table of
positions or a bias per token may be a matrix, and would vanish if it decayed."""


class Optimization:
    """Optimizer over several modules that follows a recipe's schedule."""

    def __init__(self, modules: Sequence[nn.Module], recipe: Recipe, num_steps: int) -> None:
        self.recipe = recipe
        self.num_steps = num_steps
        self.parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        decaying = {id(p) for module in modules for p in _decaying(module)}
        self.optimizer = _optimizer(
            [p for p in self.parameters if id(p) in decaying],
            [p for p in self.parameters if id(p) not in decaying],
            recipe,
        )

    def step(self, number: float, num_batches: int = 1) -> None:
        """Clip the gradients, update the parameters, and clear the gradients.

        Args:
            number: Step over the whole budget, from 0; fractional where the size of steps varies.
            num_batches: Number of batches whose gradients are summed; the step takes their mean.
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

    def state_dict(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors, named `INDEX.NAME` by parameter index."""
        return {
            f"{index}.{name}": value
            for index, parameter in enumerate(self.parameters)
            for name, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the tensors of `state_dict`."""
        for key, value in state.items():
            index, name = key.split(".", 1)
            if int(index) >= len(self.parameters):
                continue  # log-variances of earlier releases, which were the last parameters
            parameter = self.parameters[int(index)]
            own = value.to(parameter.device, copy=True)
            if value.shape == parameter.shape:
                # Fused kernels read raw memory: the layout must equal the parameter's.
                own = torch.empty_like(parameter, requires_grad=False).copy_(value)
            self.optimizer.state[parameter][name] = own


def _decaying(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the matrices and kernels of a module's layers."""
    for layer in module.modules():
        if isinstance(layer, DECAYING):
            for name, parameter in layer.named_parameters(recurse=False):
                if "weight" in name and parameter.ndim >= 2:
                    yield parameter


def _optimizer(
    decaying: list[nn.Parameter], others: list[nn.Parameter], recipe: Recipe
) -> torch.optim.Optimizer:
    groups = [
        {"params": decaying, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # One fused call per step: a Python loop over parameters would cost more than a small network.
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
