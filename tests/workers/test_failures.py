"""Failures are classified by whose fault they are, and recognized when they come again."""

import errno
import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.failures import (
    BadCandidateError,
    DivergedError,
    Failure,
    FailureKind,
    UserCodeError,
    classify,
)


def raised(error: Exception, wrapper: type[Exception] | None = None) -> Exception:
    """The error as it arrives: raised, and perhaps wrapped on its way."""

    def fail() -> None:
        if wrapper is None:
            raise error
        try:
            raise error
        except type(error) as inner:
            raise wrapper("wrapped") from inner

    with pytest.raises(wrapper or type(error)) as caught:
        fail()
    return caught.value


ENOSPC = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "wrapper", "kind"),
    [
        (MemoryError(), None, "out_of_memory"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            None,
            "out_of_memory",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            None,
            "out_of_memory",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), None, "out_of_memory"),
        (MemoryError(), UserCodeError, "out_of_memory"),
        (MemoryError(), BadCandidateError, "out_of_memory"),
        (DivergedError("train_loss is nan"), None, "diverged"),
        (DivergedError("metric is nan"), UserCodeError, "diverged"),
        (BadCandidateError("heads"), None, "bad_candidate"),
        (ValueError("heads must divide"), BadCandidateError, "bad_candidate"),
        (ENOSPC, None, "no_space"),
        (OSError(errno.EIO, "Input/output error"), None, "infrastructure"),
        (OSError(errno.EIO, "Input/output error"), UserCodeError, "infrastructure"),
        (ConnectionResetError("peer"), None, "infrastructure"),
        (ENOSPC, UserCodeError, "no_space"),
        (ConnectionResetError("peer"), UserCodeError, "infrastructure"),
        (FileNotFoundError(errno.ENOENT, "No such file"), UserCodeError, "user_code"),
        (KeyError("x"), UserCodeError, "user_code"),
        (RuntimeError("shapes do not fit"), None, "user_code"),
    ],
)
def test_every_exception_has_its_kind(
    error: Exception, wrapper: type[Exception] | None, kind: str
) -> None:
    failure = classify(raised(error, wrapper))
    assert failure.kind == kind
    assert type(error).__name__ in failure.message
    assert "Traceback" in failure.traceback
    assert re.fullmatch(r"test_failures.py:\d+ in fail", failure.where)


@pytest.mark.parametrize("wrapper", [None, UserCodeError])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("out_of_memory", "CUDA error: out of memory"),
        ("out_of_memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
        ("out_of_memory", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
        ("out_of_memory", "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
        ("out_of_memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        ("out_of_memory", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        ("out_of_memory", "CURAND_STATUS_ALLOCATION_FAILED"),
        ("out_of_memory", "CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
        ("out_of_memory", "FIND was unable to find an engine to execute this computation"),
        ("out_of_memory", "GET was unable to find an engine to execute this computation"),
        ("out_of_memory", "std::bad_alloc"),
        (
            "out_of_memory",
            "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: not enough memory",
        ),
        ("out_of_memory", "NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp"),
        ("out_of_memory", "CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasCreate(handle)`"),
        (
            "out_of_memory",
            "CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`",
        ),
        ("out_of_memory", "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        ("out_of_memory", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        ("out_of_memory", "Unable to find a valid cuDNN algorithm to run convolution"),
        ("out_of_memory", "HIP error: hipErrorOutOfMemory"),
        ("out_of_memory", "level_zero backend failed: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
        ("out_of_memory", "DataLoader worker (pid 7) is killed by signal: Killed. "),
        (
            "out_of_memory",
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory.",
        ),
        ("no_space", "unable to write to file </torch_1_2>: No space left on device (28)"),
        ("infrastructure", "CUDA error: uncorrectable ECC error encountered"),
        ("infrastructure", "CUDA error: an illegal memory access was encountered"),
        ("infrastructure", "CUDA error: unspecified launch failure"),
        ("infrastructure", "CUDA error: the launch timed out and was terminated"),
        ("infrastructure", "CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
        ("infrastructure", "Found no NVIDIA driver on your system."),
        ("infrastructure", "Can't initialize NVML"),
        ("infrastructure", "NCCL error in: ProcessGroupNCCL.cpp:2006, unhandled system error"),
        ("user_code", "CUDA error: device-side assert triggered"),
        ("user_code", "CUDA error: invalid configuration argument"),
        ("user_code", "mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)"),
    ],
)
def test_messages_of_devices_are_classified_by_cause(
    kind: str, text: str, wrapper: type[Exception] | None
) -> None:
    assert classify(raised(RuntimeError(text), wrapper)).kind == kind
    assert classify(raised(torch.AcceleratorError(text), wrapper)).kind == kind


class OutOfMemoryError(Exception):
    """As frameworks have it that are no torch."""


class TrainingError(ValueError):
    """As XGBoost has it: a library's own, derived from a builtin type."""


@pytest.mark.parametrize("wrapper", [None, UserCodeError])
def test_other_frameworks_run_out_of_memory_too(wrapper: type[Exception] | None) -> None:
    for error in (
        OutOfMemoryError("Allocation on device 0"),
        torch.OutOfMemoryError("Allocation on device 0"),
        TrainingError("bad_allocation: cudaErrorMemoryAllocation: out of memory"),
    ):
        assert classify(raised(error, wrapper)).kind == "out_of_memory"
    plain = ValueError("scheme 'out of memory' is unknown")
    assert classify(raised(plain, wrapper)).kind == "user_code"
    assert classify(raised(UserCodeError("metric 'out of memory'"))).kind == "user_code"


def test_the_same_mistake_again_has_the_same_digest() -> None:
    def fail(size: int) -> Failure:
        return classify(raised(ValueError(f"cannot take {size} bytes at 0x{size:x}")))

    assert fail(10).digest == fail(123456).digest
    assert fail(10).digest != classify(raised(ValueError("another mistake"))).digest
    assert fail(10).digest != classify(raised(TypeError("cannot take 10 bytes at 0xa"))).digest


def test_the_same_words_from_another_place_are_another_mistake() -> None:
    def here() -> None:
        raise ValueError("no")

    def there() -> None:
        raise ValueError("no")

    digests = set()
    for place in (here, there):
        with pytest.raises(ValueError, match="no") as caught:
            place()
        digests.add(classify(caught.value).digest)
    assert len(digests) == 2


def test_a_failure_seen_from_outside_needs_no_traceback() -> None:
    failure = Failure.without_traceback(FailureKind.TIMEOUT, "no sign of life for 120 s")
    assert (failure.kind, failure.traceback) == ("timeout", "")
    assert failure.digest


def test_long_messages_are_cut_and_empty_ones_keep_their_class() -> None:
    assert len(classify(ValueError("x" * 10_000)).message) <= 500
    assert classify(ValueError()).message == "ValueError"


@given(kind=st.sampled_from(FailureKind), message=st.text(), trace=st.text(), digest=st.text())
def test_a_failure_survives_json(kind: FailureKind, message: str, trace: str, digest: str) -> None:
    failure = Failure(kind=kind, message=message, traceback=trace, digest=digest)
    assert Failure.from_dict(json.loads(json.dumps(failure.to_dict()))) == failure
