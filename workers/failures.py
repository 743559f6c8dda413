"""Why an attempt ended badly, as a record: what happened, whose fault it is, and whether it is new.

Knows no policy: how often each kind is tried again is for the study to say.
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
    # What CUDA's libraries say where no room is left for their code, handles and workspaces.
    *("cublas_status_not_initialized", "cudnn_status_not_initialized", "create(handle)"),
    *("cudnn_status_internal_error", "unable to find an engine to execute"),
    *("unable to find a valid cudnn algorithm", "nvml_success == r internal assert failed"),
    # What becomes of data loaders where the system, or its shared memory, is out of room.
    *("is killed by signal: killed", "out of shared memory", "insufficient shared memory"),
)
"""What allocators, drivers and libraries say where memory is short, in small letters."""
BROKEN_DEVICE = (
    *("ecc error", "illegal memory access", "illegal_address", "launch failure", "launch_failed"),
    *("misaligned address", "hardware stack error", "launch timed out", "fallen off the bus"),
    *("busy or unavailable", "no cuda-capable device", "no nvidia driver"),
    *("driver version is insufficient", "driver shutting down", "display driver / cuda driver"),
    *("cuda unknown error", "error: unknown error", "initialization error", "system not yet"),
    *("nvml", "nvlink", "nccl error", "ncclsystemerror", "ncclinternalerror", "ncclremoteerror"),
)
"""What they say where a device, its driver, or the link between two fails, in small letters. A
device-side assertion is not among them: it is an index that the code got wrong."""
FULL_DISK = ("no space left on device", "disk quota exceeded")
"""What torch says where a disk is full, in small letters; it may be the one of shared memory."""
OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""How the system says that a disk, or the user's share of it, is full."""
_NOT_LIBRARIES = frozenset({"builtins", __name__})


class FailureKind(StrEnum):
    """Whose fault a failure is."""

    USER_CODE = "user_code"
    """The user's generator, or the network while it runs, raised."""
    OUT_OF_MEMORY = "out_of_memory"
    """The worker's or the device's memory did not suffice."""
    DIVERGED = "diverged"
    """The training loss, or a metric of the user's, is no finite number."""
    TIMEOUT = "timeout"
    """No sign of life for longer than the watchdog allows."""
    INFRASTRUCTURE = "infrastructure"
    """Disk, network, or the machine itself."""
    NO_SPACE = "no_space"
    """A disk is full: whoever tries next will find it so too."""
    CRASH = "crash"
    """The worker's process ended without a word, on a machine that lives."""
    BAD_CANDIDATE = "bad_candidate"
    """The candidate cannot be built or set up."""


class DivergedError(ArchscoutError):
    """Training left the finite numbers."""


class BadCandidateError(ArchscoutError):
    """The candidate cannot be built or set up; its cause says why."""


class UserCodeError(ArchscoutError):
    """The user's own code raised; its cause says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The end of an attempt that went wrong."""

    kind: FailureKind
    """Whose fault it is."""
    message: str
    """Its first sentence, for a line in a table."""
    traceback: str
    """Where it happened, for a log; empty where nothing was raised."""
    digest: str
    """Equal for failures that are the same mistake again."""
    where: str = ""
    """The place that raised, `mine.py:12 in train`; empty where nothing was raised."""

    @classmethod
    def without_traceback(cls, kind: FailureKind, message: str) -> Self:
        """A failure that was seen from outside: a killed process, a watchdog that ran out."""
        return cls(
            kind=kind,
            message=redact(message)[:MAX_MESSAGE],
            traceback="",
            digest=_digest(kind, message, ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data that crosses a process boundary; `from_dict` undoes it."""
        return {**asdict(self), "kind": str(self.kind)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The failure that `to_dict` wrote."""
        return cls(**{**data, "kind": FailureKind(data["kind"])})


def classify(error: BaseException) -> Failure:
    """The record of an exception that ended an attempt."""
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
        # Without the line's number: a mistake is the same after an edit above it.
        digest=_digest(name, first_line, f"{file}:{last.name}" if last else ""),
        where=f"{file}:{last.lineno} in {last.name}" if last else "",
    )


def named(error: OSError, path: str) -> OSError:
    """The same error, which says where it was, and how much room there is on a full disk."""
    text = error.strerror or str(error)
    if error.errno in OUT_OF_SPACE:
        text += f", {shutil.disk_usage(path).free:,} bytes are free"
    return OSError(error.errno, text, path)


def _origin(error: BaseException) -> BaseException:
    """What the wrappers that tell whose fault it is were raised from."""
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
    if (isinstance(origin, OSError) and origin.errno in OUT_OF_SPACE) or _says(origin, FULL_DISK):
        return FailureKind.NO_SPACE
    # A file that the user's code names wrongly is the user's; a full disk under it is not.
    theirs = isinstance(error, UserCodeError) and not _is_of_the_world(origin)
    if _says(origin, BROKEN_DEVICE) or (isinstance(origin, OSError) and not theirs):
        return FailureKind.INFRASTRUCTURE
    return FailureKind.USER_CODE


def _is_out_of_memory(error: BaseException) -> bool:
    # By name: each framework has one of its own, not all of which say more.
    if {"MemoryError", "OutOfMemoryError"} & {base.__name__ for base in type(error).__mro__}:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return _says(error, OUT_OF_MEMORY)


def _says(error: BaseException, texts: tuple[str, ...]) -> bool:
    """Whether a library raised it, as RuntimeError or its own type, with one of these texts."""
    text = str(error).lower()
    raised = isinstance(error, RuntimeError) or type(error).__module__ not in _NOT_LIBRARIES
    return raised and any(one in text for one in texts)


def _is_of_the_world(error: BaseException) -> bool:
    world = {errno.EIO, errno.EROFS, errno.ESTALE, errno.ENETUNREACH}
    return isinstance(error, ConnectionError) or (
        isinstance(error, OSError) and error.errno in world
    )


def _digest(*parts: str) -> str:
    # Numbers differ between failures that are one mistake: sizes, addresses, process ids.
    text = "\n".join(re.sub(r"0x[0-9a-f]+|\d+", "#", part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()
