"""How a process starts Ray or joins it, and keeps Ray's hands off its signals and terminal."""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.engines.ray_tune.deadline import answers
from search_spaces.errors import ArchscoutError, ExitCode
from workers.data.limits import available_bytes, usable_cores

PROBE_S = 180.0
"""How long the process may take that asks whether a Ray cluster is at an address.

Loading Ray from a slow file system takes most of it; the question itself ends within 15 s."""

STORE_BYTES = 512 << 20
"""Size of the object store for small data: room for what Tune and the workers send."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Ray itself puts it


class EngineLostError(ArchscoutError, RuntimeError):
    """The cluster is gone; the study can be resumed.

    Ray 2.60 may crash while the interpreter ends after this: whoever cares for the exit status
    leaves by `os._exit`.
    """

    exit_code = ExitCode.INTERRUPTED


def store_bytes(data_bytes: int, shared_memory: Path = SHARED_MEMORY) -> int:
    """Return the object store's size: the data and room for messages, within memory's bounds.

    What does not fit is kept on the disk by Ray, so the bounds refuse nothing.
    """
    free = available_bytes() // 2
    if shared_memory.is_dir():
        free = min(free, shutil.disk_usage(shared_memory).free)
    return max(STORE_BYTES, min(data_bytes * 5 // 4 + STORE_BYTES, free))


def initialise(ray: Any, address: str | None, options: dict[str, Any]) -> None:
    """Start Ray on this machine with the options, or join the cluster at the address.

    Raises:
        EngineLostError: It does not start, or no cluster is there.
    """
    if address is None:
        _start(ray, options)
        return
    if re.fullmatch(r"[^/]+:\d{1,5}", address) and not answers(address):
        raise EngineLostError(
            f"engine.address: no Ray cluster at {address!r}: nothing answers there"
        )
    _probe(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise EngineLostError(f"engine.address: no Ray cluster at {address!r}: {error}") from error


def _start(ray: Any, options: dict[str, Any]) -> None:
    """Start a cluster of our own on this machine.

    Raises:
        EngineLostError: Ray 2.60 gave up: its processes have half a minute each to start.
    """
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **{"num_cpus": usable_cores(), **options},
        )
    except Exception as error:  # Ray raises a plain one here
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineLostError(
            f"Ray did not start on this machine, which may be too busy or short of memory: {why}. "
            "`archscout resume` tries again"
        ) from error


def _probe(address: str) -> None:
    """Make sure that Ray's head is at the address, in a process that can be ended.

    Ray 2.60 tries for many minutes, deaf to signals, where something else listens.

    Raises:
        EngineLostError: It is not, or does not say so in time.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    limits = {
        "RAY_gcs_rpc_server_connect_timeout_s": "5",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    }
    try:
        done = subprocess.run(  # noqa: S603  # Ray's own command; the address is one word of it.
            [*command, f"--address={address}"],
            env={**os.environ, **limits},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        local = address == "auto"
        why = "none runs on this machine" if local else "what answers there is not its head"
        raise EngineLostError(f"engine.address: no Ray cluster at {address!r}: {why}")


@contextlib.contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Put the handler of SIGTERM back that was there before.

    Ray 2.60 puts two of its own in its place: one leaves by `sys.exit`, the other prints a stack
    and aborts the process 3 s later.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def silence(ray: Any) -> None:
    """Keep Ray off the terminal: failures reach the user through the study, once and classified."""
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Ray 2.60 prints the death of a worker to stdout whatever `log_to_driver` says.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001
