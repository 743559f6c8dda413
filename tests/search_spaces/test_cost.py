"""Costs equal counts by hand, and need neither memory nor arithmetic."""

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Classify,
    Concatenate,
    ConvolutionStem,
    RawStem,
    Recurrent,
    Regress,
    Residual,
    SeriesStem,
    Stage,
    UnbuildableError,
)
from search_spaces.cost import Counting, cost
from search_spaces.task import Task

TASK = Task(inputs={"image": (1, 6, 6)}, num_classes=10)


def architecture(*stages: Stage) -> Architecture:
    stream = Stream(stem=ConvolutionStem(width=8), stages=stages)
    return Architecture(streams={"image": stream}, fusion=Concatenate(), head=Classify())


STEM_FLOPS = 2 * 36 * (9 * 8)
HEAD_FLOPS = 2 * 8 * 10


def test_flops_and_parameters_of_convolutions_agree_with_a_count_by_hand() -> None:
    stage = Stage(width=8, depth=1, reduction="none", block=Residual())
    counted = cost(architecture(stage), TASK)
    assert counted.flops == STEM_FLOPS + 2 * 2 * 36 * (9 * 8 * 8) + HEAD_FLOPS
    assert counted.parameters == (9 * 8 + 16) + 2 * (9 * 8 * 8 + 16) + 90


def test_flops_of_attention_agree_with_a_count_by_hand() -> None:
    stage = Stage(width=8, depth=1, reduction="none", block=Attention(heads=2, mlp_ratio=2.0))
    projections = 2 * 36 * (4 * 8 * 8)
    mixing = 2 * (2 * 36 * 36 * 8)
    mlp = 2 * 36 * (2 * 8 * 16)
    expected = STEM_FLOPS + projections + mixing + mlp + HEAD_FLOPS
    assert cost(architecture(stage), TASK).flops == expected


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_flops_of_recurrent_cells_agree_with_a_count_by_hand(cell: str, gates: int) -> None:
    stage = Stage(width=7, depth=2, reduction="block", block=Recurrent(cell=cell))
    stream = Stream(stem=RawStem(), stages=(stage,))
    series = Architecture(streams={"x": stream}, fusion=Concatenate(), head=Regress())
    counted = cost(series, Task(inputs={"x": (12, 5)}, num_classes=0, num_values=2))
    # Each step maps what it reads and its last state to every gate; the second reads the first.
    steps = 12 * gates * 7 * ((5 + 7) + (7 + 7))
    assert counted.flops == 2 * steps + 2 * 7 * 2
    assert counted.parameters == gates * 7 * ((5 + 7 + 2) + (7 + 7 + 2)) + (7 * 2 + 2)


def test_flops_of_attention_by_distance_agree_with_a_count_by_hand() -> None:
    layer = Attention(heads=2, mlp_ratio=0.0, positions="sinusoidal")
    stage = Stage(width=8, depth=1, reduction="none", block=layer)
    stream = Stream(stem=SeriesStem(width=8), stages=(stage,))
    series = Architecture(streams={"x": stream}, fusion=Concatenate(), head=Regress())
    counted = cost(series, Task(inputs={"x": (10, 3)}, num_classes=0, num_values=1))
    distances = 19
    stem, projections, mixing = 10 * 3 * 8, 10 * 4 * 8 * 8, 2 * 10 * 10 * 8
    # Sinusoids are mapped once for the whole batch of two, of which half counts for one example.
    places = distances * 8 * 8 // 2 + 10 * distances * 8
    assert counted.flops == 2 * (stem + projections + mixing + places + 8)


def test_activations_agree_with_a_count_by_hand() -> None:
    float32, map_bytes = 4, 8 * 36 * 4
    image = 36 * float32
    # The convolution keeps its input, batch normalisation the convolution's output, the rectifier
    # its own output; pooling keeps shapes only; the head keeps the embedding. Batch
    # normalization also keeps mean and standard deviation of the batch, half for each of two.
    statistics = 8 * float32
    expected = image + 2 * map_bytes + 8 * float32 + statistics
    assert cost(architecture(), TASK).activation_bytes == expected


def test_activations_grow_with_the_depth_and_weights_do_not_count() -> None:
    block = Residual()
    shallow, deep, deeper = (
        cost(architecture(Stage(width=8, depth=depth, block=block)), TASK).activation_bytes
        for depth in (1, 2, 3)
    )
    assert deeper - deep == deep - shallow > 0


class OnlyMeta(TorchDispatchMode):
    """Fails on any operation that gives a tensor with memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == "meta", func
        return made


def test_a_network_that_no_machine_could_hold_is_counted() -> None:
    stage = Stage(width=65536, depth=4, reduction="none", block=Attention(heads=4))
    with OnlyMeta():
        counted = cost(architecture(stage), TASK)
    assert counted.parameters * 4 > 100e9


def test_counting_leaves_the_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    cost(architecture(), TASK)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_built_has_no_cost() -> None:
    with pytest.raises(UnbuildableError, match="heads must divide"):
        cost(architecture(Stage(width=9, depth=1, block=Attention(heads=2))), TASK)


def test_a_network_that_was_counted_leaves_nothing_behind() -> None:
    def left() -> int:
        gc.collect()
        return sum(type(found) is torch.nn.Parameter for found in gc.get_objects())

    network = architecture(
        Stage(block=Residual(), width=8, depth=2),
        Stage(block=Attention(heads=2), width=8, depth=1),
    )
    cost(network, TASK)
    before = left()
    for _ in range(3):
        cost(network, TASK)
    assert left() == before


WHOLE = torch.ones(2, 3, 4, dtype=torch.int64)
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(),
    "mean_of_one": lambda x: x.mean(1),
    "mean_kept": lambda x: x.mean((0, -1), keepdim=True),
    "mean_of_none": lambda x: x.mean(()),
    "mean_beyond": lambda x: x.mean(3),
    "mean_of_a_number": lambda x: x.sum().mean(0),
    "mean_of_whole": lambda x: WHOLE.to(x.device).mean(),
    "mean_in_double": lambda x: x.mean(dtype=torch.float64),
    "half": lambda x: x / 2,
    "whole_by_number": lambda x: WHOLE.to(x.device) / 2,
    "whole_by_whole": lambda x: WHOLE.to(x.device) / WHOLE.to(x.device),
    "whole_by_floor": lambda x: WHOLE.to(x.device) // 2,
    "whole_and_number": lambda x: WHOLE.to(x.device) + 0.5,
    "whole_times_float": lambda x: WHOLE.to(x.device) * x,
    "sigmoid_of_whole": lambda x: WHOLE.to(x.device).sigmoid(),
    "relu_of_whole": lambda x: WHOLE.to(x.device).relu(),
    "mixed": lambda x: x + x.to(torch.bfloat16),
    "row": lambda x: x * x[0],
    "column": lambda x: x[:, :1] + x,
    "compared": lambda x: x >= 0.5,
    "compared_with_one": lambda x: x >= x[0],
    "layer_norm": lambda x: functional.layer_norm(x, x.shape[1:]),
    "group_norm": lambda x: functional.group_norm(x, 3),
    "batch_norm": lambda x: functional.batch_norm(x, None, None, training=True),
    "softmax": lambda x: x.softmax(1),
    "linear": lambda x: functional.linear(x[0], x[0], x[0, :, 0]),
    "elu": functional.elu,
    "gelu": lambda x: functional.gelu(x, approximate="tanh"),
}


def shape_and_format(call: Callable[[Tensor], Tensor], x: Tensor) -> object:
    """What a call gives, or that it raises."""
    try:
        given = call(x)
    except (RuntimeError, IndexError):
        return "refused"
    return given.shape, given.dtype


@pytest.mark.parametrize("name", CALLS)
def test_counting_gives_what_the_operation_itself_gives(name: str) -> None:
    expected = shape_and_format(CALLS[name], torch.rand(2, 3, 4))
    with Counting():
        assert shape_and_format(CALLS[name], torch.rand(2, 3, 4, device="meta")) == expected
