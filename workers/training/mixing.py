"""Mixing of examples: mixup and cutmix. The caller weights the losses of both targets."""

import math

import torch
from torch import Tensor

from search_spaces.model_output import Batch, ModelOutput
from search_spaces.recipe import Mixing

# B batch, C channels, H height, W width


def mix(batch: Batch, kind: Mixing, generator: torch.Generator) -> tuple[Batch, Batch, float]:
    """Mix every example of a batch with another one.

    `mixup` interpolates both (Zhang et al. 2018, arXiv:1710.09412); `cutmix` pastes a rectangle of
    the other image (Yun et al. 2019, arXiv:1905.04899) and leaves other streams unchanged. One
    share, sampled uniformly, holds for the whole batch.

    Args:
        batch: The batch.
        kind: `mixup` or `cutmix`.
        generator: Source of random numbers, on the CPU.

    Returns:
        The mixed batch with its own targets, the same with the targets of the others, and the
        share of the own targets: with `cutmix` the mean over all images, 1 without images.
    """
    share = float(torch.rand((), generator=generator))
    order = torch.randperm(len(batch.targets_B), generator=generator).to(batch.targets_B.device)
    center = torch.rand(2, generator=generator).tolist()
    other = permute(batch, order)
    shown: dict[str, dict[str, Tensor]] = {"inputs": {}, "second_view": {}, "raw": {}}
    kept: list[float] = []
    for part, mine in shown.items():
        for name, values in getattr(batch, part).items():
            theirs = getattr(other, part)[name]
            if kind == "mixup":
                mine[name] = torch.lerp(theirs.float(), values.float(), share)
            elif values.dim() == 4:
                mine[name], left = _cut(values, theirs, share, center)
                kept.append(left)
            else:
                mine[name] = values
    if kind == "cutmix":
        share = sum(kept) / len(kept) if kept else 1.0
    inputs, second_view, raw = shown["inputs"], shown["second_view"], shown["raw"]
    one, two = (
        each._replace(inputs=inputs, second_view=second_view, raw=raw) for each in (batch, other)
    )
    return one, two, share


def permute(batch: Batch, order: Tensor) -> Batch:
    """Return the batch's examples in another order."""

    def reorder(values: Tensor) -> Tensor:
        return values[order] if len(values) else values

    teacher = batch.teacher
    return batch._replace(
        inputs={name: values[order] for name, values in batch.inputs.items()},
        second_view={name: values[order] for name, values in batch.second_view.items()},
        raw={name: values[order] for name, values in batch.raw.items()},
        targets_B=reorder(batch.targets_B),
        values_BV=reorder(batch.values_BV),
        teacher=teacher and ModelOutput(logits_BK=reorder(teacher.logits_BK)),
    )


def _cut(
    images_BCHW: Tensor, others_BCHW: Tensor, share: float, center: list[float]
) -> tuple[Tensor, float]:
    """Return images with a rectangle of the others, and the share of their own area."""
    height, width = images_BCHW.shape[2:]
    side = math.sqrt(1 - share) / 2
    top, bottom = (_position(center[0] + s * side, height) for s in (-1, 1))
    left, right = (_position(center[1] + s * side, width) for s in (-1, 1))
    cut_BCHW = images_BCHW.clone()
    cut_BCHW[:, :, top:bottom, left:right] = others_BCHW[:, :, top:bottom, left:right]
    return cut_BCHW, 1 - (bottom - top) * (right - left) / (height * width)


def _position(share: float, size: int) -> int:
    return max(0, min(size, round(share * size)))
