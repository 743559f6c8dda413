"""Start Ray or connect to it, without its signal handlers and terminal output."""

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search_spaces.errors import ArchscoutError, ExitCode
from workers.data.limits import available_bytes, usable_cores

CALL_TIMEOUT_S = 60.0
"""Time limit of one call to Ray's head, in seconds."""

PROBE_TIMEOUT_S = 180.0
"""Time limit of the process that checks for a Ray cluster at an address, in seconds.

Loading Ray from a slow file system takes most of it; the check itself ends within 15 s."""

STORE_BYTES = 512 << 20
"""Size of the object store for small data: room for the messages of Tune and the workers."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder that Ray uses


class EngineLostError(ArchscoutError, RuntimeError):
    """The cluster is lost; the study can be resumed.

    Ray 2.60 may crash while the interpreter exits afterwards: leave by `os._exit` to keep the exit
    status.
    """

    exit_code = ExitCode.INTERRUPTED


def store_bytes(data_bytes: int, shared_memory: Path = SHARED_MEMORY) -> int:
    """Return the size of the object store: data and messages, limited by the free memory.

    Ray spills the rest to disk.

    Args:
        data_bytes: Size of the data set.
        shared_memory: Folder of the object store.
    """
    free = available_bytes() // 2
    if shared_memory.is_dir():
        free = min(free, shutil.disk_usage(shared_memory).free)
    return max(STORE_BYTES, min(data_bytes * 5 // 4 + STORE_BYTES, free))


def initialize(ray: Any, address: str | None, options: dict[str, Any]) -> None:
    """Start Ray on this machine with the options, or connect to the cluster at the address.

    Raises:
        EngineLostError: It does not start, or there is no cluster.
    """
    if address is None:
        _start(ray, options)
        return
    if re.fullmatch(r"[^/]+:\d{1,5}", address) and not is_listening(address):
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
        EngineLostError: It did not start; Ray 2.60 waits half a minute for each process.
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
    """Require Ray's head at the address, by a process that can be killed.

    If another program listens there, Ray 2.60 tries for many minutes and ignores signals.

    Raises:
        EngineLostError: It is not there, or does not answer in time.
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
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        local = address == "auto"
        why = "none runs on this machine" if local else "another program answers there"
        raise EngineLostError(f"engine.address: no Ray cluster at {address!r}: {why}")


@contextlib.contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM on exit.

    Ray 2.60 installs two of its own: one calls `sys.exit`, the other prints a stack trace and
    aborts the process 3 s later.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def is_listening(address: str) -> bool:
    """Return True if a program accepts connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
        return True
    return False


def silence(ray: Any) -> None:
    """Turn off Ray's terminal output: the study reports failures, once and classified."""
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Ray 2.60 prints the death of a worker to stdout whatever `log_to_driver` says.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001
