"""Augmentation of blocks of images in the data's units, independent for each image.

Labels do not change. Random numbers come from a generator on the CPU, so that a seed gives the
same augmentation on every device.
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
    """Translate each image by up to `most` pixels per axis, padded with background.

    Args:
        images_BCHW: Images, (B, C, H, W).
        most: Maximum translation in pixels.
        channels: Statistics of the images' channels.
        generator: Source of random numbers.
    """
    num, _, height, width = images_BCHW.shape
    offsets_2B = torch.randint(-most, most + 1, (2, num), generator=generator)
    offsets_2B = offsets_2B.to(images_BCHW.device)
    rows_BH = torch.arange(height, device=images_BCHW.device) + most + offsets_2B[0, :, None]
    columns_BW = torch.arange(width, device=images_BCHW.device) + most + offsets_2B[1, :, None]
    each = torch.arange(num, device=images_BCHW.device)
    # Channels last, as in memory.
    size = (num, height + 2 * most, width + 2 * most, -1)
    padded_BHWC = channels.background(images_BCHW.dtype).expand(size).clone()
    padded_BHWC[:, most : most + height, most : most + width] = images_BCHW.permute(0, 2, 3, 1)
    moved_BHWC = padded_BHWC[each[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]
    return moved_BHWC.permute(0, 3, 1, 2)


def flip(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 0.5."""
    flipped_B = torch.rand(len(images_BCHW), generator=generator) < 0.5
    flipped_B = flipped_B.to(images_BCHW.device)
    return torch.where(flipped_B[:, None, None, None], images_BCHW.flip(3), images_BCHW)


def cut_out(
    images_BCHW: Tensor, side: int, channels: ChannelStatistics, generator: torch.Generator
) -> Tensor:
    """Replace a random square of `side` pixels by background (DeVries and Taylor 2017)."""
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
    """Replace a random rectangle by noise, with probability 0.5 (arXiv:1708.04896).

    Its area is 2 to 33 % of the image, its aspect ratio 1/3 to 3. The noise has each channel's
    mean, standard deviation and range.
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
        positions = torch.arange(size)
        start_B1, side_B1 = starts_2B[axis, :, None], sides_2B[axis, :, None]
        inside.append((positions >= start_B1) & (positions < start_B1 + side_B1))
    hit_BHW = inside[0][:, :, None] & inside[1][:, None, :] & (chance_5B[4] < 0.5)[:, None, None]
    # Sampled for these pixels alone: noise for whole images takes most of the time.
    changed_3N = hit_BHW.nonzero().T.to(images_BCHW.device)
    normal_NC = torch.randn(changed_3N.shape[1], num_channels, generator=generator)
    noise_NC = channels.noise(normal_NC.to(images_BCHW.device), images_BCHW.dtype)
    erased_BCHW = images_BCHW.clone()
    erased_BCHW.permute(0, 2, 3, 1)[tuple(changed_3N)] = noise_NC
    return erased_BCHW


def _shift_a_little(
    images_BCHW: Tensor, channels: ChannelStatistics, generator: torch.Generator
) -> Tensor:
    """Translate by up to 1/28 of the side, at least one pixel: 1 of 28, 1 of 8, 8 of 224."""
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
"""Augmentation by its name in a recipe."""
