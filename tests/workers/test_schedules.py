"""Schedules hit their golden numbers, torch's own among them."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Classify,
    Concatenate,
    ConvNeXt,
    PatchStem,
    Recurrent,
    SegmentMemory,
    Stage,
    VectorStem,
)
from search_spaces.recipe import Recipe
from search_spaces.task import Task
from workers.training.optimization import Optimization
from workers.training.schedules import learning_rate, momentum

SCHEDULES = ("one_cycle", "cosine", "linear", "constant")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [0.5, 1.0, 1.0, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]),
        ("linear", [0.5, 1.0, 1.0, 0.8333333, 0.6666667, 0.5, 0.3333333, 0.1666667]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_eight_steps_with_a_quarter_of_warm_up(schedule: str, expected: list[float]) -> None:
    recipe = Recipe(schedule=schedule, warmup=0.25, learning_rate=1.0)  # type: ignore[arg-type]
    rates = [learning_rate(recipe, step, 8) for step in range(8)]
    assert rates == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("num_steps", "warmup"), [(40, 0.25), (100, 0.3), (17, 0.5), (1000, 0.05)])
def test_one_cycle_is_torchs(num_steps: int, warmup: float) -> None:
    recipe = Recipe(schedule="one_cycle", warmup=warmup, learning_rate=0.3, momentum=0.95)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains that the optimizer was not stepped
        reference = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.3, total_steps=num_steps, pct_start=warmup
        )
        for step in range(num_steps):
            group = optimizer.param_groups[0]
            assert learning_rate(recipe, step, num_steps) == pytest.approx(group["lr"], rel=1e-6)
            assert momentum(recipe, step, num_steps) == pytest.approx(group["momentum"], rel=1e-6)
            if step + 1 < num_steps:
                reference.step()


@given(
    schedule=st.sampled_from(SCHEDULES),
    warmup=st.floats(0, 0.99),
    num_steps=st.integers(1, 300),
    data=st.data(),
)
def test_every_step_has_a_rate_above_zero_and_at_most_the_highest(
    schedule: str, warmup: float, num_steps: int, data: st.DataObject
) -> None:
    recipe = Recipe(schedule=schedule, warmup=warmup, learning_rate=0.1)  # type: ignore[arg-type]
    step = data.draw(st.integers(0, num_steps - 1))
    assert 0 < learning_rate(recipe, step, num_steps) <= 0.1 * (1 + 1e-9)
    assert 0.8 - 1e-9 <= momentum(recipe, step, num_steps) <= 0.9 + 1e-9


@pytest.mark.parametrize("optimizer", ["adamw", "sgd_nesterov"])
def test_only_matrices_and_kernels_decay(optimizer: str) -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    recipe = Recipe(optimizer=optimizer, weight_decay=0.3)  # type: ignore[arg-type]
    decayed, spared = Optimization([network], recipe, 10).optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    assert {tuple(p.shape) for p in decayed["params"]} == {(2, 2, 3, 3), (2, 2)}
    assert {tuple(p.shape) for p in spared["params"]} == {(2,)}


def test_scales_positions_and_biases_of_any_shape_do_not_decay() -> None:
    image = Stream(
        stem=PatchStem(width=16, patch=2, positions=True),
        stages=tuple(
            Stage(width=16, depth=1, reduction="none", block=block)
            for block in (
                ConvNeXt(layer_scale=0.1),
                Attention(positions="relative", layer_scale=0.1),
                Attention(positions="learned"),
            )
        ),
    )
    steps = (
        Recurrent(),
        SegmentMemory(segment=4),
        Attention(positions="sinusoidal"),
    )
    vector = Stream(
        stem=VectorStem(width=16, tokens=True),
        stages=tuple(Stage(width=16, depth=1, reduction="none", block=block) for block in steps),
    )
    architecture = Architecture(
        streams={"image": image, "vector": vector}, fusion=Concatenate(), head=Classify()
    )
    network = architecture.build(Task(inputs={"image": (1, 8, 8), "vector": (6,)}, num_classes=3))
    optimizer = Optimization([network], Recipe(weight_decay=0.3), 10).optimizer
    decayed = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    named = dict(network.named_parameters())
    last = {key.rpartition(".")[2] for key, value in named.items() if id(value) in decayed}
    assert last == {"weight", "weight_ih_l0", "weight_hh_l0"}
    of_layers = [key for key, value in named.items() if value.ndim >= 2 and "weight" in key]
    assert len(decayed) == len([key for key in of_layers if "weight_FC" not in key])


def test_gradients_are_clipped_to_the_recipes_norm() -> None:
    def moved(clip: float | None) -> float:
        network = nn.Linear(4, 1, bias=False)
        before = network.weight.detach().clone()
        recipe = Recipe(
            optimizer="sgd_nesterov",
            learning_rate=1.0,
            momentum=0.0,
            weight_decay=0.0,
            schedule="constant",
            warmup=0.0,
            gradient_clip=clip,
        )
        network.weight.grad = torch.full((1, 4), 5.0)
        Optimization([network], recipe, 1).step(0)
        return float((network.weight.detach() - before).norm())

    assert moved(None) == pytest.approx(10.0)
    assert moved(0.5) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd_nesterov"])
def test_memory_taken_up_in_the_parameters_own_layout_steps_the_same(optimizer: str) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        module: nn.Module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return module

    def step(one: nn.Module, optimization: Optimization, number: int) -> None:
        torch.manual_seed(number)
        x = torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last)
        one(x).square().sum().backward()
        optimization.step(number)

    recipe = Recipe(optimizer=optimizer)  # type: ignore[arg-type]
    whole = network()
    steps = Optimization([whole], recipe, 4)
    step(whole, steps, 0)
    step(whole, steps, 1)
    resumed = network()
    resumed.load_state_dict({k: v.contiguous() for k, v in whole.state_dict().items()})
    again = Optimization([resumed], recipe, 4)
    again.load_state_dict({k: v.contiguous() for k, v in steps.state_dict().items()})
    step(whole, steps, 2)
    step(resumed, again, 2)
    assert torch.equal(whole.weight, resumed.weight)  # type: ignore[arg-type]


def test_state_of_former_parameters_is_ignored() -> None:
    network = nn.Linear(2, 1, bias=False)
    optimization = Optimization([network], Recipe(), 4)
    network(torch.ones(1, 2)).sum().backward()
    optimization.step(0)
    memory = optimization.state_dict()
    again = Optimization([network], Recipe(), 4)
    again.load_state_dict({**memory, "1.momentum_buffer": torch.ones(2)})
    torch.testing.assert_close(again.state_dict(), memory)
