"""Log file of a trial: everything its worker logs and prints, all attempts in one file.

The driver adds the outcome. Errors while writing a log are ignored, and secrets are redacted.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from workers.job import TrainingJob
from workers.measurement import Measurement, Progress
from workers.redaction import redact

MAX_BYTES = 8 << 20
"""Maximum that one attempt writes: a loop that prints must not fill the disk."""

_MAX_LINE = 64 << 10
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

Steps = Generator[Measurement | Progress, None, None]


def log_steps(job: TrainingJob, steps: Steps) -> Iterator[Measurement | Progress]:
    """Yield the steps of a training and copy what it logs and prints to the job's log."""
    if job.log_path is None:
        yield from steps
        return
    file = _File(Path(job.log_path))
    host, pid = socket.gethostname(), os.getpid()
    file.log(f"attempt {job.key.number} of trial {job.trial_number} begins: seed {job.seed}, "
             f"{job.device}, process {pid} on {host}")  # fmt: skip
    try:
        while True:
            with _capture_output(file):
                seen = next(steps, None)
            if seen is None:
                return
            if isinstance(seen, Measurement):
                file.log(_line(job, seen))
            yield seen
    finally:
        with _capture_output(file):
            steps.close()
        file.close()


def append(path: Path, text: str) -> None:
    """Append text to a trial's log."""
    file = _File(path)
    file.log(text)
    file.close()


def _line(job: TrainingJob, seen: Measurement) -> str:
    metrics = "  ".join(f"{name} {value:.5g}" for name, value in sorted(seen.metrics.items()))
    done = f"{job.budget.unit} {seen.fidelity} of {job.budget.maximum}"
    return f"{done}: {metrics}  ({seen.elapsed_s:.1f} s)"


class _File:
    """Log file opened for appending whole lines; disk errors are ignored."""

    def __init__(self, path: Path) -> None:
        self._rest = ""
        self._left = MAX_BYTES
        self._descriptor: int | None = None
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Worker and driver both append, so each line is one write to the current end.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)

    def log(self, text: str) -> None:
        """Write a line of our own, with the time."""
        self.flush_line()
        self.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text.rstrip()}\n")

    def write(self, text: str) -> int:
        """Buffer text and write the lines that it completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            # Keep what a terminal would show of a progress bar that overwrites itself.
            self._put(line.rstrip("\r").rpartition("\r")[2] + "\n")
        if len(self._rest) > _MAX_LINE:
            self.flush_line()
        return len(text)

    def flush(self) -> None:
        """Do nothing: only an unfinished line is buffered."""

    def flush_line(self) -> None:
        """End a started line."""
        if self._rest:
            self.write("\n")

    def close(self) -> None:
        """Write the buffered text; later text is dropped."""
        self.flush_line()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _put(self, line: str) -> None:
        if self._descriptor is None or self._left <= 0:
            return
        data = redact(line).encode(errors="backslashreplace")
        self._left -= len(data)
        if self._left <= 0:
            data += f"(more than {MAX_BYTES >> 20} MB: the rest is not kept)\n".encode()
        with suppress(OSError):
            os.write(self._descriptor, data)


class _Tee:
    """Standard stream that also copies the writes of one thread to a log."""

    def __init__(self, stream: TextIO, file: _File) -> None:
        self._stream = stream
        self._file = file
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        """Write to the stream; text of other threads, such as the display, is not copied."""
        if threading.get_ident() == self._thread:
            self._file.write(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _capture_output(file: _File) -> Iterator[None]:
    """Copy what this thread logs and prints; restores the process's streams afterwards."""
    root, thread = logging.getLogger(), threading.get_ident()
    handler = logging.StreamHandler(cast("TextIO", file))
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(lambda record: record.thread == thread)
    level = root.level
    before = sys.stdout, sys.stderr
    tees = tuple(cast("TextIO", _Tee(stream, file)) for stream in before)
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    sys.stdout, sys.stderr = tees
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        if (sys.stdout, sys.stderr) == tees:
            sys.stdout, sys.stderr = before
