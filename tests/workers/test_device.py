"""How a worker computes follows from its job and its machine, and evaluation counts truly."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces.losses import Clip, CrossEntropy
from search_spaces.model_output import Batch, ModelOutput
from workers.data import Dataset, Split
from workers.failures import BadCandidateError, DivergedError, classify
from workers.job import TrainingJob
from workers.training import device as device_module
from workers.training.batches import DeviceSplit, Normalisation, on_device
from workers.training.device import DeviceError, Execution, prepare
from workers.training.evaluate import MetricAccumulator, evaluate

MakeJob = Callable[..., TrainingJob]
CPU = torch.device("cpu")


def test_a_worker_uses_the_threads_of_its_job(make_job: MakeJob) -> None:
    before = torch.get_num_threads()
    try:
        prepare(make_job(threads=2), "float32")
        assert torch.get_num_threads() == 2
        prepare(make_job(threads=1), "float32")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("precision", "tiles", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, None),
        ("float32", True, None),
        ("bfloat16", False, torch.bfloat16),
    ],
)
def test_low_precision_is_taken_where_the_cpu_is_built_for_it(
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    tiles: bool,
    expected: torch.dtype | None,
) -> None:
    monkeypatch.setattr(device_module, "has_bfloat16_tiles", lambda: tiles)
    execution = prepare(make_job(), precision)
    assert execution.low_precision == expected
    with execution.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (expected or torch.float32)


def test_an_unknown_precision_is_the_candidates_fault(make_job: MakeJob) -> None:
    with pytest.raises(BadCandidateError, match="float16"):
        prepare(make_job(), "float16")


def test_a_missing_device_is_an_infrastructure_failure(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="torch sees none") as caught:
        prepare(make_job(device="cuda"), "auto")
    assert classify(caught.value).kind == "infrastructure"


GIB = 2**30


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A GPU of 8 GiB that is no more than asked about; what its allocator is held to."""
    held: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda: SimpleNamespace(total_memory=8 * GIB)
    )
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", held.append)
    return held


@pytest.mark.parametrize(
    ("share", "fraction"), [(0.5, 0.4375), (0.25, 0.1875), (0.1, 0.05), (1.0, 1.0), (0.0, 1.0)]
)
def test_a_share_of_a_device_is_enforced_less_what_is_not_the_allocators(
    make_job: MakeJob, gpu: list[float], share: float, fraction: float
) -> None:
    execution = prepare(make_job(device="cuda", gpu_share=share), "auto")
    assert gpu == [fraction]
    assert execution.low_precision == torch.bfloat16


def test_a_job_with_the_whole_device_is_not_held_to_the_share_of_the_one_before(
    make_job: MakeJob, gpu: list[float]
) -> None:
    for share in (0.5, 1.0):
        prepare(make_job(device="cuda", gpu_share=share), "auto")
    assert gpu[-1] == 1.0


@pytest.mark.parametrize(("major", "expected"), [(7, None), (8, torch.bfloat16)])
def test_auto_leaves_gpus_alone_that_only_emulate_bfloat16(
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
    gpu: list[float],
    major: int,
    expected: torch.dtype | None,
) -> None:
    # Tensors of that type can be made on every card: what torch calls emulation.
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or major >= 8,
    )
    assert prepare(make_job(device="cuda"), "auto").low_precision == expected


def test_float32_on_a_gpu_is_float32_in_convolutions_too(
    make_job: MakeJob, gpu: list[float]
) -> None:
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        prepare(make_job(device="cuda"), "float32")
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


class Guess(nn.Module):
    """Always sure of one class."""

    def __init__(self, label: int, score: float = 1.0) -> None:
        super().__init__()
        self.label = label
        self.score = score

    def forward(self, inputs: dict[str, Tensor]) -> ModelOutput:
        logits = torch.zeros(len(inputs["image"]), 10)
        logits[:, self.label] = self.score
        return ModelOutput(logits, logits)


def test_evaluation_counts_every_example_once(digits: Dataset) -> None:
    _, validation, _ = on_device(digits, CPU)
    accumulator = MetricAccumulator(CPU)
    execution = Execution(device=CPU, low_precision=None)
    shares = list(evaluate(Guess(3), CrossEntropy(), validation, execution, accumulator))
    assert shares[-1] == 1.0
    assert accumulator.count == len(digits.validation)
    share = float((digits.validation.targets == 3).mean())
    metrics = accumulator.metrics("val")
    assert metrics["val_accuracy"] == pytest.approx(share)
    likelihood = torch.log_softmax(torch.tensor([1.0] + [0.0] * 9), 0)
    expected = -(share * likelihood[0] + (1 - share) * likelihood[1])
    assert metrics["val_loss"] == pytest.approx(float(expected), rel=1e-5)


class Counted(nn.Module):
    """Linear in the image; notes how many examples it was shown at once."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(64, 10)
        self.seen: list[int] = []

    def forward(self, inputs: dict[str, Tensor]) -> ModelOutput:
        embedding = self.read(inputs["image"].flatten(1))
        self.seen.append(len(embedding))
        return ModelOutput(embedding, embedding, towers=(embedding, embedding))


def test_evaluation_in_chunks_gives_the_same_loss(
    digits: Dataset,
) -> None:
    _, validation, _ = on_device(digits, CPU)
    execution = Execution(device=CPU, low_precision=None)
    torch.manual_seed(0)
    network = Counted()
    found = []
    for size in (256, 24):
        accumulator = MetricAccumulator(CPU)
        list(evaluate(network, Clip(), validation, execution, accumulator, max_batch_size=size))
        found.append(accumulator.metrics("val"))
    assert max(network.seen[-3:]) <= 24
    # Clip compares every example with all others: a smaller batch would be an easier task.
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_validation_loss_that_is_not_finite_is_classified_as_diverged(digits: Dataset) -> None:
    _, validation, _ = on_device(digits, CPU)
    accumulator = MetricAccumulator(CPU)
    execution = Execution(device=CPU, low_precision=None)
    list(evaluate(Guess(3, float("nan")), CrossEntropy(), validation, execution, accumulator))
    with pytest.raises(DivergedError, match="val_loss is nan"):
        accumulator.metrics("val")


class FortyTwo(nn.Module):
    """Predicts the mean, and one standard deviation above it."""

    def forward(self, inputs: dict[str, Tensor]) -> ModelOutput:
        return ModelOutput(values_BV=torch.tensor([[0.0, 1.0]]).repeat(len(inputs["state"]), 1))


class SquaredError(nn.Module):
    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        return (output.values_BV - batch.values_BV).square().mean()


def test_errors_of_targets_are_in_the_datas_units_and_in_standard_deviations() -> None:
    values = np.array([[2.0, 0.0], [6.0, 0.0], [2.0, 4.0], [6.0, 4.0]], dtype=np.float32)
    state = np.ones((4, 3), dtype=np.float32)
    split = Split(inputs={"state": state}, targets=np.zeros(4, dtype=np.int64), values=values)
    accumulator = MetricAccumulator(CPU, ["left", "right"])
    served = DeviceSplit(split, Normalisation.of(split), CPU)
    execution = Execution(device=CPU, low_precision=None)
    list(evaluate(FortyTwo(), SquaredError(), served, execution, accumulator))
    # The first is 2 off everywhere, the second 4 and 0; standard deviations are 2.
    assert accumulator.metrics("val") == {
        "val_loss": pytest.approx(1.5),
        "val_mae/left": pytest.approx(2.0),
        "val_mae/right": pytest.approx(2.0),
        "val_rmse": pytest.approx(1.5**0.5),
    }
