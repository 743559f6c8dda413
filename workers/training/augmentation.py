"""Augmentation of whole blocks of images at once, in the data's units, each image in its own way.

Knows pictures only; labels never change here. Draws come from a generator on the CPU, so that
a seed means the same on every device.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from workers.training.batches import Augment, ChannelStatistics

# B batch, C channels, H height, W width, N pixels that change


def shift(
    images_BCHW: Tensor, most: int, channels: ChannelStatistics, generator: torch.Generator
) -> Tensor:
    """Each image moved by up to `most` pixels either way, background where nothing comes in."""
    num, _, height, width = images_BCHW.shape
    offsets_2B = torch.randint(-most, most + 1, (2, num), generator=generator)
    offsets_2B = offsets_2B.to(images_BCHW.device)
    rows_BH = torch.arange(height, device=images_BCHW.device) + most + offsets_2B[0, :, None]
    columns_BW = torch.arange(width, device=images_BCHW.device) + most + offsets_2B[1, :, None]
    each = torch.arange(num, device=images_BCHW.device)
    # With the channels last, which is also how the memory is laid out.
    size = (num, height + 2 * most, width + 2 * most, -1)
    padded_BHWC = channels.background(images_BCHW.dtype).expand(size).clone()
    padded_BHWC[:, most : most + height, most : most + width] = images_BCHW.permute(0, 2, 3, 1)
    moved_BHWC = padded_BHWC[each[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]
    return moved_BHWC.permute(0, 3, 1, 2)


def flip(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Every other image, by chance, mirrored left to right."""
    flipped_B = torch.rand(len(images_BCHW), generator=generator) < 0.5
    flipped_B = flipped_B.to(images_BCHW.device)
    return torch.where(flipped_B[:, None, None, None], images_BCHW.flip(3), images_BCHW)


def cut_out(
    images_BCHW: Tensor, side: int, channels: ChannelStatistics, generator: torch.Generator
) -> Tensor:
    """A square of background, `side` pixels wide, at a random place (DeVries and Taylor 2017)."""
    num, _, height, width = images_BCHW.shape
    centres_2B = torch.stack(
        [
            torch.randint(0, height, (num,), generator=generator),
            torch.randint(0, width, (num,), generator=generator),
        ]
    ).to(images_BCHW.device)
    device = images_BCHW.device
    rows_BH = torch.arange(height, device=device) - centres_2B[0, :, None] + side // 2
    columns_BW = torch.arange(width, device=device) - centres_2B[1, :, None] + side // 2
    inside_BHW = ((rows_BH >= 0) & (rows_BH < side))[:, :, None] & (
        (columns_BW >= 0) & (columns_BW < side)
    )[:, None, :]
    background_C11 = channels.background(images_BCHW.dtype)[:, None, None]
    return torch.where(inside_BHW[:, None], background_C11, images_BCHW)


def erase(images_BCHW: Tensor, channels: ChannelStatistics, generator: torch.Generator) -> Tensor:
    """Noise in a rectangle of every other image, by chance (Zhong et al. 2020, arXiv:1708.04896).

    Its area is 2 to 33 % of the image, its sides up to 1 to 3. The noise has each channel's mean,
    standard deviation and range.
    """
    num, num_channels, height, width = images_BCHW.shape
    chance_5B = torch.rand(5, num, generator=generator)
    area_B = 0.02 + 0.31 * chance_5B[0]
    ratio_B = torch.exp((2 * chance_5B[1] - 1) * math.log(3))
    sides_2B = torch.stack([(area_B * ratio_B).sqrt(), (area_B / ratio_B).sqrt()]).clamp_max(1)
    sizes_2 = torch.tensor([[height], [width]])
    sides_2B = (sides_2B * sizes_2).round().clamp_min(1)
    starts_2B = (chance_5B[2:4] * (sizes_2 - sides_2B + 1)).floor()
    inside = []
    for axis, size in enumerate((height, width)):
        places = torch.arange(size)
        start_B1, side_B1 = starts_2B[axis, :, None], sides_2B[axis, :, None]
        inside.append((places >= start_B1) & (places < start_B1 + side_B1))
    hit_BHW = inside[0][:, :, None] & inside[1][:, None, :] & (chance_5B[4] < 0.5)[:, None, None]
    # Drawn for these pixels alone: noise for whole images would take longer than all the rest.
    changed_3N = hit_BHW.nonzero().T.to(images_BCHW.device)
    normal_NC = torch.randn(changed_3N.shape[1], num_channels, generator=generator)
    noise_NC = channels.noise(normal_NC.to(images_BCHW.device), images_BCHW.dtype)
    erased_BCHW = images_BCHW.clone()
    erased_BCHW.permute(0, 2, 3, 1)[tuple(changed_3N)] = noise_NC
    return erased_BCHW


def _shift_a_little(
    images_BCHW: Tensor, channels: ChannelStatistics, generator: torch.Generator
) -> Tensor:
    """By up to a twenty-eighth of the side, and one pixel at least: 1 of 28, 1 of 8, 8 of 224."""
    return shift(images_BCHW, max(1, round(images_BCHW.shape[2] / 28)), channels, generator)


def _flip_shift(
    images_BCHW: Tensor, channels: ChannelStatistics, generator: torch.Generator
) -> Tensor:
    return flip(_shift_a_little(images_BCHW, channels, generator), generator)


def _erasing(
    images_BCHW: Tensor, channels: ChannelStatistics, generator: torch.Generator
) -> Tensor:
    return erase(_shift_a_little(images_BCHW, channels, generator), channels, generator)


def _cutout(images_BCHW: Tensor, channels: ChannelStatistics, generator: torch.Generator) -> Tensor:
    moved_BCHW = _shift_a_little(images_BCHW, channels, generator)
    return cut_out(moved_BCHW, max(1, images_BCHW.shape[2] // 4), channels, generator)


AUGMENTATIONS: Mapping[str, Augment | None] = {
    "none": None,
    "shift": _shift_a_little,
    "cutout": _cutout,
    "flip_shift": _flip_shift,
    "erasing": _erasing,
}
"""What each of a recipe's names for it does to a block of images."""
