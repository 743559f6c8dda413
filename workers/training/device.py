"""Execution settings of a worker: device, threads, memory fraction and precision.

They depend on the job and the machine's capabilities, never on a timing: a resumed trial must
compute as the uninterrupted one would have.
"""

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from search_spaces.errors import ArchscoutError
from workers.failures import BadCandidateError
from workers.job import TrainingJob

PRECISIONS = ("auto", "float32", "bfloat16")
CONTEXT_BYTES = 512 * 2**20
"""GPU memory of a process outside torch's allocator: CUDA context and libraries."""


class DeviceError(ArchscoutError, OSError):
    """The worker does not have the device of its job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Device and precision of a worker."""

    device: torch.device
    """Device of all tensors."""
    low_precision: torch.dtype | None
    """Autocast type of matrix products and convolutions; None keeps float32."""

    @property
    def precision(self) -> str:
        """Name of the precision: `float32` or `bfloat16`. Prediction must use the same."""
        return "float32" if self.low_precision is None else "bfloat16"

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context manager of forward passes."""
        if self.low_precision is None:
            return nullcontext()
        context = ExitStack()
        context.enter_context(torch.autocast(self.device.type, dtype=self.low_precision))
        if self.device.type == "cpu":
            # torch 2.13: the backward pass of the CPU's fused attention takes nine times as long in
            # bfloat16 as in float32; as matrix products it takes less than twice as long.
            context.enter_context(sdpa_kernel(SDPBackend.MATH))
        return context


def prepare(job: TrainingJob, precision: str) -> Execution:
    """Configure this process for a job: threads, and fraction of the device's memory.

    Args:
        job: Threads, device and GPU share.
        precision: `auto`, `float32` or `bfloat16`.

    Raises:
        DeviceError: The job's device is not available.
        BadCandidateError: There is no such precision.
    """
    if torch.get_num_threads() != job.threads:
        torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("this worker was given a CUDA device, but torch sees none")
        # Ray only counts fractions; this limit enforces them. It is set for a whole device too: the
        # process may have had a lower limit for the previous job.
        torch.cuda.set_per_process_memory_fraction(_memory_fraction(job.gpu_share))
        # As the default of matrix products: `float32` means float32.
        torch.backends.cudnn.allow_tf32 = False
    return Execution(device=device, low_precision=_low_precision(device, precision))


def _memory_fraction(share: float) -> float:
    """Return the allocator's fraction of the device's memory, less the context's memory."""
    if not 0 < share < 1:
        return 1.0
    context = CONTEXT_BYTES / torch.cuda.get_device_properties().total_memory
    return max(share - context, share / 2)


def _low_precision(device: torch.device, precision: str) -> torch.dtype | None:
    if precision not in PRECISIONS:
        raise BadCandidateError(
            f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}"
        )
    if precision == "auto":
        return torch.bfloat16 if _is_fast_in_bfloat16(device) else None
    return torch.bfloat16 if precision == "bfloat16" else None


def _is_fast_in_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return has_bfloat16_tiles()
    # GPUs before compute capability 8.0 take twice as long for it as for float32.
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


@functools.cache
def has_bfloat16_tiles() -> bool:
    """Return whether this CPU has hardware for bfloat16 matrix products (Intel AMX).

    Measured with one thread: a 3x3 convolution of 64 channels takes a quarter of its float32 time
    on such a CPU. Others convert back and forth, and are slower for it.
    """
    # torch 2.9 does not report it yet: assume no.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))
