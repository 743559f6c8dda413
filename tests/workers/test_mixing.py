"""Examples are mixed as the loss is told they were, and averages of weights are true averages."""

import pytest
import torch
from torch import Tensor, nn

from search_spaces.model_output import Batch
from workers.augmentation import erase
from workers.averaging import Averaging
from workers.mixing import mixed


def pictures(seed: int) -> tuple[Batch, torch.Generator]:
    """Pictures that are one number throughout, the example's own."""
    labels = torch.arange(6)
    image = labels.float().view(-1, 1, 1, 1).expand(-1, 1, 8, 10).clone()
    batch = Batch(inputs={"image": image}, targets_B=labels, raw={"image": image})
    return batch, torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixed_picture_holds_its_share_of_both(kind: str, seed: int) -> None:
    batch, generator = pictures(seed)
    shown, other, share = mixed(batch, kind, generator)  # type: ignore[arg-type]
    assert sorted(other.targets_B.tolist()) == batch.targets_B.tolist()
    assert 0 <= share <= 1
    expected = share * batch.targets_B + (1 - share) * other.targets_B
    torch.testing.assert_close(shown.inputs["image"].mean((1, 2, 3)), expected)
    assert torch.equal(shown.targets_B, batch.targets_B)
    if kind == "cutmix":
        assert all(len(picture.unique()) <= 2 for picture in shown.inputs["image"])


def test_cutmix_leaves_what_is_no_picture_alone() -> None:
    series = torch.randn(4, 3, 5)
    batch = Batch(inputs={"series": series}, targets_B=torch.arange(4))
    shown, _, share = mixed(batch, "cutmix", torch.Generator().manual_seed(0))
    assert share == 1.0
    assert torch.equal(shown.inputs["series"], series)


def test_erasing_puts_noise_on_one_rectangle_of_half_of_the_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(400, 2, 20, 30, dtype=torch.uint8)
    changed = (erase(images, generator) != 0).any(1)
    hit = changed[changed.flatten(1).any(1)]
    assert len(hit) == pytest.approx(200, abs=40)
    for picture in hit:
        rows, columns = picture.any(1).nonzero(), picture.any(0).nonzero()
        box = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.float().mean() > 0.9  # noise of two channels is nowhere else
        assert 0.01 < box.numel() / picture.numel() < 0.36


def test_the_average_follows_the_weights_by_its_decay() -> None:
    network = nn.Linear(1, 1, bias=False)
    averaging = Averaging(network, 0.75)
    values = [1.0, 5.0, 9.0]
    for value in values:
        network.weight.data.fill_(value)
        averaging.follow()
    # The first is taken as it is; then a quarter of the way to each.
    assert _weight(averaging.judged) == pytest.approx(0.75 * (0.75 * 1 + 0.25 * 5) + 0.25 * 9)
    again = Averaging(nn.Linear(1, 1, bias=False), 0.75)
    again.remember(averaging.judged.state_dict(), averaging.memory())
    for one in (averaging, again):
        one.network.weight.data.fill_(2.0)  # type: ignore[operator, union-attr]
        one.follow()
    assert _weight(again.judged) == _weight(averaging.judged)


def test_without_a_decay_the_network_itself_is_judged() -> None:
    network = nn.Linear(1, 1)
    averaging = Averaging(network, None)
    averaging.follow()
    assert averaging.judged is network
    assert averaging.memory() == {}


def _weight(module: nn.Module) -> float:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.item()
