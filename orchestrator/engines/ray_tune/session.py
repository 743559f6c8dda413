"""The process's connection to Ray, shared by its engines.

Sets the environment variables that Ray reads at its import.
"""

import atexit
import contextlib
import gc
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from orchestrator.engines.ray_tune.launch import (
    CALL_TIMEOUT_S,
    EngineLostError,
    initialize,
    is_listening,
    keeping_sigterm,
    silence,
)
from orchestrator.engines.ray_tune.scratch import Scratch
from orchestrator.timeouts import NoAnswerError, call_with_timeout, result_within

START_TIMEOUT_S = 300.0
"""Time limit for Ray to start or to connect: a slow file system needs most of it."""

SHUTDOWN_TIMEOUT_S = 30.0
"""Time limit of `ray.shutdown`; 7 s were measured after the head had been killed."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TQDM": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray 2.60 starts workers at nice 15: on a busy machine they would get no CPU time.
    "RAY_worker_niceness": "0",
    # A worker that loads Python from a slow file system must not be killed while it starts.
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_enable_metrics_collection": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Relative paths in a study refer to the user's folder, not to Tune's folder of a trial.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The reporter of Ray 2.60 prints a table for each run even with verbose=0.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Snapshots are never read: each start is a new run on the state of the ledger.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # For its logs, Tune's thread would query the head for the resources. A lost head never
    # answers, and the thread would keep this process from starting Ray again.
    "TUNE_STATE_REFRESH_PERIOD": "1000000000",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": "1000000000",
    # The number of running attempts is limited by free slots instead.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    # Without its head, Ray 2.60 would kill this process after a minute, with its ledger open. The
    # engine notices within seconds, and ends the search itself.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    # A call that comes too late must not start a second cluster.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "TUNE_DISABLE_AUTO_INIT": "1",
    "OMP_NUM_THREADS": "1",
}


class Session:
    """The one Ray that a process can be connected to, shared by its engines.

    A Ray that the user's own code has started is used as it is, and is not shut down.
    """

    _lock = threading.RLock()
    _current: "Session | None" = None
    _unusable = False

    def __init__(
        self, address: str | None, options: dict[str, Any], tell: Callable[[str], None]
    ) -> None:
        """Start Ray on this machine, or connect to the address; a running Ray is used as it is."""
        self._users = 0
        self._undo = contextlib.ExitStack()
        self.stuck = False
        """True if a thread may still be inside a call of Ray."""
        with contextlib.ExitStack() as undo:
            scratch = _scratch(undo)
            self.scratch = scratch.path
            """Private folder of this session, removed at its end."""
            undo.enter_context(_environment(None if address else self.scratch))
            import ray  # noqa: PLC0415 - loading takes a second and reads the environment

            self.ray: Any = ray
            """The module, loaded in this environment."""
            self._owned = not ray.is_initialized()
            if self._owned:
                options = {"_temp_dir": str(scratch.ray), **options}
                self._open(address, options, tell, undo)
            silence(ray)
            self.head, self.node = _addresses(ray)
            self._undo = undo.pop_all()

    @classmethod
    def enter(
        cls, address: str | None, options: dict[str, Any], tell: Callable[[str], None]
    ) -> "Session":
        """Return the session of this process, opened if there is none; call `leave` afterwards.

        Args:
            address: Address of a running cluster; None starts one on this machine.
            options: Arguments of `ray.init` for a cluster of our own.
            tell: Shows a message to the user.

        Raises:
            EngineLostError: Ray does not start, nothing answers at the address, or a session
                that was lost in this process cannot be ended.
        """
        with cls._lock:
            if (known := cls._current) is not None and not known.is_alive():
                known.leave(lost=True)
            if cls._unusable:
                raise EngineLostError(
                    "Ray was lost in this process and cannot be started again in it. Start a new "
                    "Python process; `archscout resume` continues from there"
                )
            session = cls._current = cls._current or cls(address, options, tell)
            session._users += 1  # noqa: SLF001 - our own class
            return session

    def leave(self, *, lost: bool = False) -> None:
        """Leave the session; it ends with its last engine, or at once if it is lost."""
        with self._lock:
            self._users -= 1
            if Session._current is self and (lost or self._users == 0):
                self._end(lost=lost)

    def is_alive(self) -> bool:
        """Return True if Ray's head and our own node accept connections."""
        return is_listening(self.head) and is_listening(self.node)

    def _open(
        self,
        address: str | None,
        options: dict[str, Any],
        tell: Callable[[str], None],
        undo: contextlib.ExitStack,
    ) -> None:
        """Call `ray.init` in a thread that lives as long as the session.

        Ray starts its processes with PR_SET_PDEATHSIG, by which Linux kills them when the thread
        that started them ends, not the process: the caller's thread may end before the session.
        """
        opened: Future[None] = Future()
        closed = threading.Event()
        undo.callback(closed.set)

        def keep() -> None:
            try:
                initialize(self.ray, address, options)
            except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
                opened.set_exception(error)
                return
            opened.set_result(None)
            closed.wait()

        place = "Ray to start" if address is None else f"the Ray cluster at {address}"
        with keeping_sigterm():
            threading.Thread(target=keep, name="archscout-ray", daemon=True).start()
            try:
                result_within(
                    opened, timeout_s=START_TIMEOUT_S, on_slow=lambda: tell(f"waiting for {place}")
                )
            except NoAnswerError as error:
                self._abandon()
                raise EngineLostError(
                    f"Ray did not start within {START_TIMEOUT_S:.0f} s. "
                    "`archscout resume` tries again"
                ) from error

    def _end(self, *, lost: bool) -> None:
        Session._current = None
        with self._undo:
            if not self._owned:
                return
            if lost:
                _kill_processes()
                gc.freeze()  # the finalizer of a placement group would call the head
                self._undo.callback(gc.unfreeze)
            try:
                if not self.stuck:
                    call_with_timeout(
                        lambda: self.ray.shutdown(wait_for_processes=True),
                        timeout_s=SHUTDOWN_TIMEOUT_S,
                    )
            except NoAnswerError:
                self.stuck = True
            if self.stuck:
                self._abandon()

    def _abandon(self) -> None:
        """Abandon a Ray that one of our threads is still calling.

        Ray 2.60 ends this process if it is used after `ray.shutdown`: so Ray is not called again,
        and only processes that we have started are killed.
        """
        Session._unusable = True
        private = self.ray._private.worker  # noqa: SLF001 - it has no public way to be abandoned
        atexit.unregister(private.shutdown)
        private.global_worker.threads_stopped.set()  # its listener would keep a CPU core busy
        self.ray.experimental.internal_kv._internal_kv_reset()  # noqa: SLF001
        _kill_processes()


def _kill_processes() -> None:
    """Kill the processes of a cluster that we have started."""
    from ray._private import worker  # noqa: PLC0415 - loads ray

    node = worker._global_node  # noqa: SLF001
    if node is not None and node.is_head():
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def _scratch(undo: contextlib.ExitStack) -> Scratch:
    """Create the session's folder, removed with the session or at exit."""
    scratch = Scratch.create()
    atexit.register(scratch.remove)
    undo.callback(atexit.unregister, scratch.remove)
    undo.callback(scratch.remove)
    return scratch


@contextlib.contextmanager
def _environment(private: Path | None) -> Iterator[None]:
    """Set the environment variables that Ray reads, and restore them afterwards.

    Args:
        private: Folder for the token of a private cluster; None for the user's cluster.
    """
    wanted = dict(_QUIET) if private is None else {**_QUIET, **_make_private(private)}
    before = set(os.environ)
    os.environ.update({key: value for key, value in wanted.items() if key not in before})
    _reload_environment()
    try:
        yield
    finally:
        for key in set(os.environ) - before:
            # Ray adds variables of its own, and replaces the user's `breakpoint()`.
            if key in wanted or key.startswith(("RAY_", "TUNE_")) or key == "PYTHONBREAKPOINT":
                del os.environ[key]
        _reload_environment()


def _reload_environment() -> None:
    """Let a loaded Ray read the environment again, which it caches."""
    constants: Any = sys.modules.get("ray._private.ray_constants")
    if constants is not None:
        constants.ENABLE_RAY_CLUSTER = constants.env_bool(
            constants.ENABLE_RAY_CLUSTERS_ENV_VAR, not constants.IS_WINDOWS_OR_OSX
        )
    if "ray._raylet" in sys.modules:
        from ray._raylet import (  # type: ignore[attr-defined]  # noqa: PLC0415 - not in its stubs
            AuthenticationTokenLoader,
            Config,
        )

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def _make_private(scratch: Path) -> dict[str, str]:
    """Return variables by which a cluster listens on loopback only, and requires a token."""
    token = scratch / "ray.token"
    with os.fdopen(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return {
        # Ray 2.60 binds every interface on Linux, unless this switch for other systems is set.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


def _addresses(ray: Any) -> tuple[str, str]:
    """Return the addresses of the head and of this process's node.

    Raises:
        EngineLostError: They do not answer.
    """
    context = ray.get_runtime_context()
    head, own = context.gcs_address, context.get_node_id()
    lost = EngineLostError(
        f"Ray, which this process is connected to, does not answer at {head}. End it with "
        "`ray.shutdown()`, or start a new Python process"
    )
    if not is_listening(head):
        raise lost
    try:
        nodes = call_with_timeout(ray.nodes, timeout_s=CALL_TIMEOUT_S)
    except NoAnswerError as error:
        raise lost from error
    [node] = [node for node in nodes if node["NodeID"] == own]
    return head, f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
