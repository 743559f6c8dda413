"""A trial's own log: what its worker logs and prints, attempt after attempt, in one file.

Knows no study: the file's name comes with the job, and how a trial ends is added by whoever
decides it. A log that cannot be written costs nothing but itself, and no password gets into one.
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
"""What one attempt may write: a loop that prints must not fill the disk."""

_MAX_LINE = 64 << 10
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

Steps = Generator[Measurement | Progress, None, None]


def logged(job: TrainingJob, steps: Steps) -> Iterator[Measurement | Progress]:
    """The same steps; what is logged and printed on the way is kept in the job's log as well."""
    if job.log_path is None:
        yield from steps
        return
    file = _File(Path(job.log_path))
    host, pid = socket.gethostname(), os.getpid()
    file.say(f"attempt {job.key.number} of trial {job.trial_number} begins: seed {job.seed}, "
             f"{job.device}, process {pid} on {host}")  # fmt: skip
    try:
        while True:
            with _listening(file):
                seen = next(steps, None)
            if seen is None:
                return
            if isinstance(seen, Measurement):
                file.say(_line(job, seen))
            yield seen
    finally:
        with _listening(file):
            steps.close()
        file.close()


def append(path: Path, text: str) -> None:
    """Adds a line, or several, to a trial's log."""
    file = _File(path)
    file.say(text)
    file.close()


def _line(job: TrainingJob, seen: Measurement) -> str:
    metrics = "  ".join(f"{name} {value:.5g}" for name, value in sorted(seen.metrics.items()))
    done = f"{job.budget.unit} {seen.fidelity} of {job.budget.maximum}"
    return f"{done}: {metrics}  ({seen.elapsed_s:.1f} s)"


class _File:
    """The end of a log file, written line by line; errors of the disk are nobody's but its own."""

    def __init__(self, path: Path) -> None:
        self._rest = ""
        self._left = MAX_BYTES
        self._descriptor: int | None = None
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Worker and driver both write: each line goes to whatever is the end by then.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)

    def say(self, text: str) -> None:
        """Writes a line of our own, with the time."""
        self.flush_line()
        self.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text.rstrip()}\n")

    def write(self, text: str) -> int:
        """Takes text and writes the lines that it completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            # What a terminal would still show of a progress bar that goes back to draw itself anew.
            self._put(line.rstrip("\r").rpartition("\r")[2] + "\n")
        if len(self._rest) > _MAX_LINE:
            self.flush_line()
        return len(text)

    def flush(self) -> None:
        """Nothing waits but an unfinished line."""

    def flush_line(self) -> None:
        """Ends a line that was begun."""
        if self._rest:
            self.write("\n")

    def close(self) -> None:
        """Writes what is left; later text is dropped."""
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


class _Echo:
    """A standard stream that also tells a log what one thread writes."""

    def __init__(self, stream: TextIO, file: _File) -> None:
        self._stream = stream
        self._file = file
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        """Passes text on; others' threads (the display's) are none of the log's business."""
        if threading.get_ident() == self._thread:
            self._file.write(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _listening(file: _File) -> Iterator[None]:
    """Takes what this thread logs and prints meanwhile; in between, the process is as it was."""
    root, thread = logging.getLogger(), threading.get_ident()
    handler = logging.StreamHandler(cast("TextIO", file))
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(lambda record: record.thread == thread)
    level = root.level
    before = sys.stdout, sys.stderr
    echoes = tuple(cast("TextIO", _Echo(stream, file)) for stream in before)
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    sys.stdout, sys.stderr = echoes
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        if (sys.stdout, sys.stderr) == echoes:
            sys.stdout, sys.stderr = before
