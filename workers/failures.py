"""Classification of failed attempts: kind, message, traceback and a digest that finds repeats.

The retry policy of each kind is the study's.
"""

import errno
import hashlib
import re
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from search_spaces.errors import ArchscoutError
from workers.redaction import redact

MAX_MESSAGE = 500
MAX_TRACEBACK = 8_000
OUT_OF_MEMORY = (
    *("out of memory", "out_of_memory", "can't allocate memory", "cannot allocate memory"),
    *("not enough memory", "bad_alloc", "alloc_failed", "allocation_failed", "memoryallocation"),
    *("erroroutofmemory", "out_of_device_memory", "out_of_host_memory", "oom when allocating"),
    # CUDA libraries without memory for their code, handles and workspaces.
    *("cublas_status_not_initialized", "cudnn_status_not_initialized", "create(handle)"),
    *("cudnn_status_internal_error", "unable to find an engine to execute"),
    *("unable to find a valid cudnn algorithm", "nvml_success == r internal assert failed"),
    # Data loaders where the system, or its shared memory, is full.
    *("is killed by signal: killed", "out of shared memory", "insufficient shared memory"),
)
"""Messages of allocators, drivers and libraries when memory is short, in lower case."""
BROKEN_DEVICE = (
    *("ecc error", "illegal memory access", "illegal_address", "launch failure", "launch_failed"),
    *("misaligned address", "hardware stack error", "launch timed out", "fallen off the bus"),
    *("busy or unavailable", "no cuda-capable device", "no nvidia driver"),
    *("driver version is insufficient", "driver shutting down", "display driver / cuda driver"),
    *("cuda unknown error", "error: unknown error", "initialization error", "system not yet"),
    *("nvml", "nvlink", "nccl error", "ncclsystemerror", "ncclinternalerror", "ncclremoteerror"),
)
"""Messages when a device, its driver, or the link between two fails, in lower case. A device-side
assertion is excluded: it is a wrong index in the code."""
FULL_DISK = ("no space left on device", "disk quota exceeded")
"""Messages of torch when a disk or shared memory is full, in lower case."""
OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk or an exhausted quota."""
_NOT_LIBRARIES = frozenset({"builtins", __name__})


class FailureKind(StrEnum):
    """Cause of a failure."""

    USER_CODE = "user_code"
    """The user's generator, or the network while it runs, raised."""
    OUT_OF_MEMORY = "out_of_memory"
    """The worker or the device ran out of memory."""
    DIVERGED = "diverged"
    """The training loss, or a metric of the user's, is not finite."""
    TIMEOUT = "timeout"
    """No heartbeat for longer than the watchdog allows."""
    INFRASTRUCTURE = "infrastructure"
    """Disk, network, or the machine itself."""
    NO_SPACE = "no_space"
    """A disk is full; a retry would fail too."""
    CRASH = "crash"
    """The worker's process died without a message while its machine kept running."""
    BAD_CANDIDATE = "bad_candidate"
    """The candidate cannot be built or set up."""


class DivergedError(ArchscoutError):
    """Training produced a value that is not finite."""


class BadCandidateError(ArchscoutError):
    """The candidate cannot be built or set up; its cause has the reason."""


class UserCodeError(ArchscoutError):
    """The user's own code raised; its cause is the exception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Record of a failed attempt."""

    kind: FailureKind
    """Cause of the failure."""
    message: str
    """First line of the error, for a table."""
    traceback: str
    """Traceback for the log; empty where nothing was raised."""
    digest: str
    """Equal for repeats of the same error."""
    where: str = ""
    """Location that raised, such as `mine.py:12 in train`; empty where nothing was raised."""

    @classmethod
    def without_traceback(cls, kind: FailureKind, message: str) -> Self:
        """Return a failure observed from outside: a killed process, an expired watchdog."""
        return cls(
            kind=kind,
            message=redact(message)[:MAX_MESSAGE],
            traceback="",
            digest=_digest(kind, message, ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that crosses a process boundary; `from_dict` is the inverse."""
        return {**asdict(self), "kind": str(self.kind)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the failure that `to_dict` wrote."""
        return cls(**{**data, "kind": FailureKind(data["kind"])})


def classify(error: BaseException) -> Failure:
    """Return the record of an exception that ended an attempt."""
    origin = _origin(error)
    first_line = (str(origin).strip().splitlines() or [""])[0]
    name = type(origin).__name__
    frames = traceback.extract_tb(origin.__traceback__ or error.__traceback__)
    last = frames[-1] if frames else None
    file = Path(last.filename).name if last else ""
    return Failure(
        kind=_kind(error, origin),
        message=redact(f"{name}: {first_line}" if first_line else name)[:MAX_MESSAGE],
        traceback=redact("".join(traceback.format_exception(error)))[-MAX_TRACEBACK:],
        # Without the line number: an edit above it does not change the error.
        digest=_digest(name, first_line, f"{file}:{last.name}" if last else ""),
        where=f"{file}:{last.lineno} in {last.name}" if last else "",
    )


def with_path(error: OSError, path: str) -> OSError:
    """Return the error with its path and, for a full disk, the free space."""
    text = error.strerror or str(error)
    if error.errno in OUT_OF_SPACE:
        text += f", {shutil.disk_usage(path).free:,} bytes are free"
    return OSError(error.errno, text, path)


def _origin(error: BaseException) -> BaseException:
    """Return the original exception inside our wrappers."""
    while isinstance(error, UserCodeError | BadCandidateError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _kind(error: BaseException, origin: BaseException) -> FailureKind:
    if isinstance(origin, DivergedError):
        return FailureKind.DIVERGED
    if _is_out_of_memory(origin):
        return FailureKind.OUT_OF_MEMORY
    if isinstance(error, BadCandidateError):
        return FailureKind.BAD_CANDIDATE
    if (isinstance(origin, OSError) and origin.errno in OUT_OF_SPACE) or _contains(
        origin, FULL_DISK
    ):
        return FailureKind.NO_SPACE
    # A wrong file name in the user's code is the user's error; a failing disk is not.
    users = isinstance(error, UserCodeError) and not _is_infrastructure(origin)
    if _contains(origin, BROKEN_DEVICE) or (isinstance(origin, OSError) and not users):
        return FailureKind.INFRASTRUCTURE
    return FailureKind.USER_CODE


def _is_out_of_memory(error: BaseException) -> bool:
    # By name: each framework has an exception of its own, some without a message.
    if {"MemoryError", "OutOfMemoryError"} & {base.__name__ for base in type(error).__mro__}:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return _contains(error, OUT_OF_MEMORY)


def _contains(error: BaseException, texts: tuple[str, ...]) -> bool:
    """Return whether a library raised it, with one of these texts in its message."""
    text = str(error).lower()
    raised = isinstance(error, RuntimeError) or type(error).__module__ not in _NOT_LIBRARIES
    return raised and any(one in text for one in texts)


def _is_infrastructure(error: BaseException) -> bool:
    numbers = {errno.EIO, errno.EROFS, errno.ESTALE, errno.ENETUNREACH}
    return isinstance(error, ConnectionError) or (
        isinstance(error, OSError) and error.errno in numbers
    )


def _digest(*parts: str) -> str:
    # Numbers differ between repeats of one error: sizes, addresses, process ids.
    text = "\n".join(re.sub(r"0x[0-9a-f]+|\d+", "#", part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()
