"""Two examples made into one that is learnt as both.

Knows batches; what is learnt of them is the caller's to weigh.
"""

import math

import torch
from torch import Tensor

from search_spaces.model_output import Batch
from search_spaces.recipe import Mixing

# B batch, C channels, H height, W width


def mixed(batch: Batch, kind: Mixing, generator: torch.Generator) -> tuple[Batch, Batch, float]:
    """A batch in which every example holds some of another.

    `mixup` adds both in one proportion (Zhang et al. 2018, arXiv:1710.09412), `cutmix` puts a
    rectangle of the other into pictures (Yun et al. 2019, arXiv:1905.04899) and leaves other
    streams alone. The proportion is drawn evenly, for the whole batch at once.

    Returns:
        The batch as it is shown, the batch of the others, and the share of the first.
    """
    share = float(torch.rand((), generator=generator))
    order = torch.randperm(len(batch.targets_B), generator=generator).to(batch.targets_B.device)
    other = batch._replace(
        inputs={name: values[order] for name, values in batch.inputs.items()},
        raw={name: values[order] for name, values in batch.raw.items()},
        targets_B=batch.targets_B[order],
        values_BV=batch.values_BV[order] if len(batch.values_BV) else batch.values_BV,
    )
    inputs = {}
    cut = share
    for name, values in batch.inputs.items():
        if kind == "mixup":
            inputs[name] = torch.lerp(other.inputs[name], values, share)
        elif values.dim() == 4:
            inputs[name], cut = _cut(values, other.inputs[name], share, generator)
        else:
            inputs[name], cut = values, 1.0
    return batch._replace(inputs=inputs), other, cut


def _cut(
    images_BCHW: Tensor, others_BCHW: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Pictures with a rectangle of the others, and the share of their own that is left."""
    height, width = images_BCHW.shape[2:]
    side = math.sqrt(1 - share)
    row = int(torch.randint(0, height, (), generator=generator))
    column = int(torch.randint(0, width, (), generator=generator))
    top, bottom = (max(0, min(height, round(row + s * side * height / 2))) for s in (-1, 1))
    left, right = (max(0, min(width, round(column + s * side * width / 2))) for s in (-1, 1))
    cut_BCHW = images_BCHW.clone()
    cut_BCHW[:, :, top:bottom, left:right] = others_BCHW[:, :, top:bottom, left:right]
    return cut_BCHW, 1 - (bottom - top) * (right - left) / (height * width)
