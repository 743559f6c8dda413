"""Examples are mixed as the loss is given, and averages of weights are true averages."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces.losses import energy_is_kept
from search_spaces.losses.physics import Law
from search_spaces.model_output import Batch, ModelOutput, TargetScaler
from workers.data.pendulum import advance, sample_states
from workers.training.augmentation import erase
from workers.training.batches import ChannelStatistics
from workers.training.ema import WeightEMA
from workers.training.evaluate import MetricAccumulator
from workers.training.mixing import mix


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
    shown, other, share = mix(batch, kind, generator)  # type: ignore[arg-type]
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
    shown, _, share = mix(batch, "cutmix", torch.Generator().manual_seed(0))
    assert share == 1.0
    assert torch.equal(shown.inputs["series"], series)


@pytest.mark.parametrize("order", [("image", "vector"), ("vector", "image")])
def test_cutmix_returns_the_images_share_with_any_other_streams(
    order: tuple[str, str],
) -> None:
    pictured, generator = pictures(1)
    parts = {**pictured.inputs, "vector": torch.zeros(6, 3)}
    batch = pictured._replace(inputs={name: parts[name] for name in order})
    shown, other, share = mix(batch, "cutmix", generator)
    assert 0 < share < 1
    expected = share * batch.targets_B + (1 - share) * other.targets_B
    torch.testing.assert_close(shown.inputs["image"].mean((1, 2, 3)), expected)


def test_a_law_holds_for_a_mixed_state_as_for_any_other() -> None:
    states = sample_states(64, np.random.default_rng(0))
    vectors = torch.from_numpy(states.astype(np.float32))
    answers = torch.from_numpy(advance(states).astype(np.float32))
    batch = Batch(
        inputs={"vector": (vectors - 1) / 2},
        raw={"vector": vectors},
        targets_B=torch.zeros(64, dtype=torch.int64),
        values_BV=answers,
        target_scaler=TargetScaler(torch.zeros(2), torch.ones(2)),
    )
    shown, other, share = mix(batch, "mixup", torch.Generator().manual_seed(1))
    assert 0.1 < share < 0.9
    torch.testing.assert_close(shown.inputs["vector"], (shown.raw["vector"] - 1) / 2)
    right = advance(shown.raw["vector"].double().numpy())
    output = ModelOutput(values_BV=torch.from_numpy(right.astype(np.float32)))
    for part in (shown, other):
        assert float(Law(energy_is_kept, "equal")(output, part)) < 1e-8


def test_pictures_in_bytes_are_mixed_in_the_datas_units_too() -> None:
    batch, generator = pictures(2)
    batch = batch._replace(raw={"image": (10 * batch.inputs["image"]).to(torch.uint8)})
    shown, _, _ = mix(batch, "mixup", generator)
    torch.testing.assert_close(shown.raw["image"], 10 * shown.inputs["image"])


def test_accuracy_on_mixed_examples_counts_each_label_by_its_share() -> None:
    targets, others = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 2, 1, 0])
    output = ModelOutput(logits_BK=torch.eye(3)[[0, 2, 2, 1]])
    accumulator = MetricAccumulator(torch.device("cpu"))
    batch, other = Batch(targets_B=targets), Batch(targets_B=others)
    accumulator.add(torch.tensor(1.0), output, batch, other, 0.75)
    # Right for both, for the other, for the first, and for none.
    assert accumulator.metrics("train")["train_accuracy"] == pytest.approx(
        (1 + 0.25 + 0.75 + 0) / 4
    )


def test_erasing_puts_noise_on_one_rectangle_of_half_of_the_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(400, 2, 20, 30, dtype=torch.uint8)
    channels = ChannelStatistics(*torch.tensor([100.0, 50.0, 0.0, 255.0]).expand(2, 4).T)
    changed = (erase(images, channels, generator) != 0).any(1)
    hit = changed[changed.flatten(1).any(1)]
    assert len(hit) == pytest.approx(200, abs=40)
    for picture in hit:
        rows, columns = picture.any(1).nonzero(), picture.any(0).nonzero()
        patch = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert patch.float().mean() > 0.9  # noise of two channels is nowhere else
        assert 0.01 < patch.numel() / picture.numel() < 0.36


def test_the_average_follows_the_weights_by_its_decay() -> None:
    network = nn.Linear(1, 1, bias=False)
    ema = WeightEMA(network, 0.2)
    values = [1.0, 5.0, 9.0]
    for value in values:
        network.weight.data.fill_(value)
        ema.update()
    # The first is taken as it is; the second by the rising decay of 2 / 11, the third by its own.
    expected = 0.2 * (2 / 11 * 1 + 9 / 11 * 5) + 0.8 * 9
    assert _weight(ema.evaluated) == pytest.approx(expected)
    again = WeightEMA(nn.Linear(1, 1, bias=False), 0.2)
    again.load_state_dict(ema.state_dict())
    for one in (ema, again):
        one.network.weight.data.fill_(2.0)  # type: ignore[operator, union-attr]
        one.update()
    assert _weight(again.evaluated) == _weight(ema.evaluated)


def test_a_slow_average_has_left_the_first_weights_after_an_epoch_of_a_few_steps() -> None:
    network = nn.Linear(1, 1, bias=False)
    ema = WeightEMA(network, 0.999)
    for step in range(30):
        network.weight.data.fill_(0.0 if step == 0 else 1.0)
        ema.update()
    assert _weight(ema.evaluated) > 0.99


def test_a_rising_decay_continues_from_a_checkpoint() -> None:
    torch.manual_seed(0)
    values = torch.rand(40)
    networks = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    whole, resumed = (WeightEMA(network, 0.999) for network in networks)
    for step, value in enumerate(values.tolist()):
        for network in networks:
            network.weight.data.fill_(value)
        whole.update()
        if step == 20:
            resumed.load_state_dict(whole.state_dict())
        if step > 20:
            resumed.update()
    assert _weight(resumed.evaluated) == _weight(whole.evaluated)


def test_without_a_decay_the_network_itself_is_evaluated() -> None:
    network = nn.Linear(1, 1)
    ema = WeightEMA(network, None)
    ema.update()
    assert ema.evaluated is network
    assert set(ema.state_dict()) == {"network.weight", "network.bias"}


def _weight(module: nn.Module) -> float:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.item()
