"""Where and how finely a worker computes: device, threads, memory share and number format.

Every choice is a function of the job and of what the machine says it has, never of a timing: a
resumed trial must compute as the uninterrupted one would have.
"""

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from workers.failures import BadCandidate
from workers.job import TrainingJob

PRECISIONS = ("auto", "float32", "bfloat16")


class DeviceError(OSError):
    """The worker lacks the device that its job was placed for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How one worker computes."""

    device: torch.device
    """Where tensors live."""
    low_precision: torch.dtype | None
    """What matrix products and convolutions are cast to; None leaves float32."""

    @property
    def precision(self) -> str:
        """What it computes in: `float32` or `bfloat16`; who predicts must compute alike."""
        return "float32" if self.low_precision is None else "bfloat16"

    def autocast(self) -> AbstractContextManager[object]:
        """The context that forward passes run in."""
        if self.low_precision is None:
            return nullcontext()
        context = ExitStack()
        context.enter_context(torch.autocast(self.device.type, dtype=self.low_precision))
        if self.device.type == "cpu":
            # torch 2.13: the CPU's fused attention takes nine times as long backwards in bfloat16
            # as in float32; written out as matrix products it takes less than twice.
            context.enter_context(sdpa_kernel(SDPBackend.MATH))
        return context


def prepare(job: TrainingJob, precision: str) -> Execution:
    """Set this process up as the job says: its threads, and its share of the device's memory.

    Raises:
        DeviceError: The job's device is not there.
        BadCandidate: There is no such precision.
    """
    if torch.get_num_threads() != job.threads:
        torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("this worker was given a CUDA device, but torch sees none")
        if 0 < job.gpu_share < 1:
            # Ray only counts shares; this is what keeps neighbours on one device apart.
            torch.cuda.set_per_process_memory_fraction(job.gpu_share)
    return Execution(device=device, low_precision=_low_precision(device, precision))


def _low_precision(device: torch.device, precision: str) -> torch.dtype | None:
    if precision not in PRECISIONS:
        raise BadCandidate(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_bfloat16_tiles()
        return torch.bfloat16 if fast else None
    return torch.bfloat16 if precision == "bfloat16" else None


@functools.cache
def has_bfloat16_tiles() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware of their own (Intel AMX).

    Measured with one thread: a 3x3 convolution of 64 channels takes a quarter of its float32 time
    on such a CPU. Others convert back and forth, and are slower for it.
    """
    # torch 2.9 cannot tell yet: taken for a no.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))
