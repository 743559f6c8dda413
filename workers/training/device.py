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

from search_spaces.errors import ArchscoutError
from workers.failures import BadCandidateError
from workers.job import TrainingJob

PRECISIONS = ("auto", "float32", "bfloat16")
CONTEXT_BYTES = 512 * 2**20
"""What a process takes of a GPU beside torch's allocator: its context and the libraries' own."""


class DeviceError(ArchscoutError, OSError):
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
        BadCandidateError: There is no such precision.
    """
    if torch.get_num_threads() != job.threads:
        torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("this worker was given a CUDA device, but torch sees none")
        # Ray only counts shares; this is what keeps neighbours on one device apart. A whole device
        # is said too: the process may have been held to less for the job before.
        torch.cuda.set_per_process_memory_fraction(_memory_fraction(job.gpu_share))
        # As matrix products are by default: `float32` means float32.
        torch.backends.cudnn.allow_tf32 = False
    return Execution(device=device, low_precision=_low_precision(device, precision))


def _memory_fraction(share: float) -> float:
    """What the allocator may take of the device's memory: a share of it, less the rest's needs."""
    if not 0 < share < 1:
        return 1.0
    beside = CONTEXT_BYTES / torch.cuda.get_device_properties().total_memory
    return max(share - beside, share / 2)


def _low_precision(device: torch.device, precision: str) -> torch.dtype | None:
    if precision not in PRECISIONS:
        raise BadCandidateError(
            f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}"
        )
    if precision == "auto":
        return torch.bfloat16 if _is_made_for_bfloat16(device) else None
    return torch.bfloat16 if precision == "bfloat16" else None


def _is_made_for_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return has_bfloat16_tiles()
    # GPUs before compute capability 8.0 take twice as long for it as for float32.
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


@functools.cache
def has_bfloat16_tiles() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware of their own (Intel AMX).

    Measured with one thread: a 3x3 convolution of 64 channels takes a quarter of its float32 time
    on such a CPU. Others convert back and forth, and are slower for it.
    """
    # torch 2.9 cannot tell yet: taken for a no.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))
