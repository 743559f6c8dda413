"""A Ray cluster as the engine sees it: started here or joined, how much it holds, whether it lives.

Everything of Ray's that has to be said before its import is said here.
"""

import atexit
import contextlib
import gc
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOOK_S = 2.0
"""How often the cluster is asked what it holds, and whether it is there."""

PROBE_S = 15.0
"""How long a cluster at an address may take to say that it is one."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TQDM": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray 2.60 starts workers at nice 15: on a busy machine they would starve.
    "RAY_worker_niceness": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A trial's folder is Tune's affair; relative paths in a study mean the user's folder.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The reporter of Ray 2.60 prints a box for each run even when told to be silent.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Snapshots are never read back: each start is a fresh run over what the ledger holds.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # How many attempts are open is decided by free slots, not by this.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    # Without its head, Ray 2.60 would end this process after a minute, ledger and all. We notice
    # within seconds, and end in our own way.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    # A call that comes too late must not start a second cluster.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "TUNE_DISABLE_AUTO_INIT": "1",
    "OMP_NUM_THREADS": "1",
}


class EngineLost(RuntimeError):  # noqa: N818 - the field's word for it
    """The cluster is gone; the study can be resumed.

    Ray 2.60 may crash while the interpreter ends after this: whoever cares for the exit status
    leaves by `os._exit`.
    """


class ResourcesTooLarge(ValueError):  # noqa: N818 - says what is wrong
    """One trial asks for more than any node of the cluster has."""


class Cluster:
    """A running Ray that this process is connected to."""

    def __init__(self, *, cpu: float, gpu: float, scratch: Path) -> None:
        import ray  # noqa: PLC0415

        self._ray: Any = ray
        self._cpu = cpu
        self._gpu = gpu
        self._head: str = ray.get_runtime_context().gcs_address
        self._doors = (self._head, _own_node(ray))
        self._looked = float("-inf")
        self._nodes: list[dict[str, Any]] = []
        self._answered = self._tried = time.monotonic()
        self.scratch = scratch
        """A folder of this process's own, removed at its end."""

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are there now and hold trials, as Ray describes them."""
        now = time.monotonic()
        if now - self._looked > LOOK_S and _answers(self._head):
            self._looked = now
            alive = [node for node in self._ray.nodes() if node["Alive"]]
            self._nodes = [node for node in alive if self._slots_of(node)]
        return self._nodes

    def slots(self) -> int:
        """How many trials they hold at once."""
        return sum(map(self._slots_of, self.nodes()))

    def largest_cpu(self) -> float:
        """The most CPU cores of a node that holds trials."""
        return max((node["Resources"].get("CPU", 0.0) for node in self.nodes()), default=0.0)

    def require_slot(self) -> None:
        """Check that at least one trial fits.

        Raises:
            ResourcesTooLarge: None does.
        """
        if self.slots() == 0:
            raise ResourcesTooLarge(
                f"resources: a trial asks for cpu {self._cpu:g} and gpu {self._gpu:g}, and no node "
                f"has as much. The cluster has {_total(self._ray)}"
            )

    def _slots_of(self, node: dict[str, Any]) -> int:
        return slots_of(node["Resources"], cpu=self._cpu, gpu=self._gpu)

    def alive(self) -> bool:
        """Whether Ray's head and our own node have answered in the last seconds."""
        now = time.monotonic()
        if now - self._tried > LOOK_S / 4:
            self._tried = now
            if all(map(_answers, self._doors)):
                self._answered = now
        return now - self._answered < LOOK_S

    def lost(self) -> EngineLost:
        """The error to raise when it is not."""
        return EngineLost(
            f"the Ray cluster at {self._head} no longer answers. What was measured is kept: "
            "`archscout resume` goes on from there"
        )


def slots_of(node: dict[str, float], *, cpu: float, gpu: float) -> int:
    """How many trials one node holds: a trial's GPU share never spans two GPUs."""
    fits = []
    if cpu > 0:
        fits.append(_times(node.get("CPU", 0.0), cpu))
    if gpu > 0:
        gpus = int(node.get("GPU", 0.0))
        fits.append(gpus * _times(1.0, gpu) if gpu < 1 else _times(gpus, gpu))
    return min(fits, default=1)


def connect(*, address: str | None, cpu: float, gpu: float, options: dict[str, Any]) -> Cluster:
    """The cluster at an address, or one of our own on loopback; a running one is used as it is.

    Raises:
        EngineLost: Nothing answers at the address.
        ResourcesTooLarge: No node holds even one trial.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _QUIET.items()})
    scratch = _scratch()
    if address is None:
        _keep_to_ourselves(scratch)
    import ray  # noqa: PLC0415

    if not ray.is_initialized():
        with _keeping_sigterm():
            _initialise(ray, address, scratch, options)
    _silence(ray)
    cluster = Cluster(cpu=cpu, gpu=gpu, scratch=scratch)
    cluster.require_slot()
    return cluster


def disconnect() -> None:
    """Leave the cluster; one of our own ends with all its processes."""
    import ray  # noqa: PLC0415

    ray.shutdown()


def break_off() -> None:
    """Leave a cluster that no longer answers, or that a thread of ours is still stuck in.

    Ray 2.60 ends this process when its parts are used after `ray.shutdown`, and waits for a lost
    head for ever: so nothing of it is touched again, and only what we started is killed.
    """
    gc.freeze()  # placement groups left behind would ask the head to free them, and wait for it
    from ray._private import worker  # noqa: PLC0415
    from ray.experimental import internal_kv  # noqa: PLC0415

    atexit.unregister(worker.shutdown)
    internal_kv._internal_kv_reset()  # type: ignore[no-untyped-call]  # noqa: SLF001
    node = worker._global_node  # noqa: SLF001
    if node is not None and node.is_head():
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def _initialise(ray: Any, address: str | None, scratch: Path, options: dict[str, Any]) -> None:
    if address is None:
        _start(ray, scratch, options)
        return
    if re.fullmatch(r"[^/]+:\d{1,5}", address) and not _answers(address):
        raise EngineLost(f"engine.address: no Ray cluster at {address!r}: nothing answers there")
    _probe(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise EngineLost(f"engine.address: no Ray cluster at {address!r}: {error}") from error


def _start(ray: Any, scratch: Path, options: dict[str, Any]) -> None:
    """Start a cluster of our own on this machine.

    Raises:
        EngineLost: Ray 2.60 gave up: its processes have half a minute each to start.
    """
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _temp_dir=str(scratch / "ray"),
            **{"num_cpus": os.cpu_count(), "object_store_memory": 512 << 20, **options},
        )
    except Exception as error:  # Ray raises a plain one here
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineLost(
            f"Ray did not start on this machine, which may be too busy or short of memory: {why}. "
            "`archscout resume` tries again"
        ) from error


def _probe(address: str) -> None:
    """Make sure that Ray's head is at the address, in a process that can be ended.

    Ray 2.60 tries for many minutes, deaf to signals, where something else listens.

    Raises:
        EngineLost: It is not, or does not say so in time.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    try:
        done = subprocess.run(  # noqa: S603  # Ray's own command; the address is one word of it.
            [*command, f"--address={address}"],
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
        raise EngineLost(f"engine.address: no Ray cluster at {address!r}: {why}")


@contextlib.contextmanager
def _keeping_sigterm() -> Iterator[None]:
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


def _silence(ray: Any) -> None:
    """Keep Ray off the terminal: failures reach the user through the study, once and classified."""
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Ray 2.60 prints the death of a worker to stdout whatever `log_to_driver` says.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001


def _keep_to_ourselves(scratch: Path) -> None:
    """Let a cluster of our own listen on loopback alone, and to holders of a token alone."""
    # Ray 2.60 binds every interface on Linux; this switch, meant for other systems, undoes it.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    token = scratch / "ray.token"
    if not token.exists():
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(token))


def _scratch() -> Path:
    """This process's folder, 0700; short, since Ray puts sockets there (107 characters at most)."""
    path = Path(tempfile.gettempdir()) / f"archscout-{os.getuid()}-{os.getpid()}"
    if not path.exists():
        for left in path.parent.glob(f"archscout-{os.getuid()}-*"):
            # A driver killed outright cannot clean up; the next one does.
            if not Path(f"/proc/{left.name.rpartition('-')[2]}").exists():
                shutil.rmtree(left, ignore_errors=True)
        path.mkdir(mode=0o700)
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _own_node(ray: Any) -> str:
    """Where the node that this process belongs to listens."""
    own = ray.get_runtime_context().get_node_id()
    [node] = [node for node in ray.nodes() if node["NodeID"] == own]
    return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
        return True
    return False


def _times(whole: float, part: float) -> int:
    """How often a part fits, forgiving the last bit of 0.1 * 3."""
    return int(whole / part + 1e-9)


def _total(ray: Any) -> str:
    total = ray.cluster_resources()
    return f"cpu {total.get('CPU', 0):g} and gpu {total.get('GPU', 0):g} in all"
