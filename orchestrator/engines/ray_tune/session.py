"""This process's connection to Ray: started or joined, shared by its engines, and ended wholly.

Everything of Ray's that has to be said before its import is said here.
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

from orchestrator.engines.ray_tune.deadline import CALL_S, NoAnswerError, answers, call, result_of
from orchestrator.engines.ray_tune.launch import (
    EngineLostError,
    initialise,
    keeping_sigterm,
    silence,
)
from orchestrator.engines.ray_tune.scratch import Scratch

START_S = 300.0
"""How long Ray may take to start or to be joined: a slow file system needs most of it."""

END_S = 30.0
"""How long `ray.shutdown` may take; 7 s were measured where the head had been killed."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TQDM": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray 2.60 starts workers at nice 15: on a busy machine they would starve.
    "RAY_worker_niceness": "0",
    # A worker that loads Python from a slow file system must not be ended before it is up.
    "RAY_worker_register_timeout_seconds": "600",
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
    # For logs alone, Tune's thread would ask the head what the cluster has. A lost head never
    # answers, and the thread would keep this process from starting Ray again.
    "TUNE_STATE_REFRESH_PERIOD": "1000000000",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": "1000000000",
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


class Session:
    """The one Ray that a process can be connected to, shared by its engines.

    A Ray that the user's own code has started is used as it is, and stays when we leave.
    """

    _lock = threading.RLock()
    _current: "Session | None" = None
    _unusable = False

    def __init__(
        self, address: str | None, options: dict[str, Any], tell: Callable[[str], None]
    ) -> None:
        """Start Ray on this machine, or join it at the address; a running one is used as it is."""
        self._users = 0
        self._undo = contextlib.ExitStack()
        self.stuck = False
        """Whether a thread may still be inside a call of Ray's."""
        with contextlib.ExitStack() as undo:
            scratch = _scratch(undo)
            self.scratch = scratch.path
            """A folder of this session's own, removed at its end."""
            undo.enter_context(_environment(None if address else self.scratch))
            import ray  # noqa: PLC0415 - takes a second, and reads the environment

            self._ray: Any = ray
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
        """Return the session of this process, opened if there is none; `leave` it afterwards.

        Args:
            address: A running cluster to join; None starts one on this machine alone.
            options: Passed on to `ray.init` where a cluster is started.
            tell: Shows the user what is waited for.

        Raises:
            EngineLostError: Ray does not start, nothing answers at the address, or a session
                that was lost in this process has not ended.
        """
        with cls._lock:
            if (known := cls._current) is not None and not known.answers():
                known.leave(lost=True)
            if cls._unusable:
                raise EngineLostError(
                    "Ray was lost in this process and cannot be started again in it. Start a new "
                    "Python process; `archscout resume` goes on from there"
                )
            session = cls._current = cls._current or cls(address, options, tell)
            session._users += 1  # noqa: SLF001 - our own class
            return session

    def leave(self, *, lost: bool = False) -> None:
        """Let go of the session: the last one ends it, and anybody does once it is lost."""
        with self._lock:
            self._users -= 1
            if Session._current is self and (lost or self._users == 0):
                self._end(lost=lost)

    def answers(self) -> bool:
        """Whether Ray's head and our own node take calls."""
        return answers(self.head) and answers(self.node)

    def _open(
        self,
        address: str | None,
        options: dict[str, Any],
        tell: Callable[[str], None],
        undo: contextlib.ExitStack,
    ) -> None:
        """Call `ray.init` in a thread that lives as long as the session.

        Ray starts its processes with PR_SET_PDEATHSIG, by which Linux ends them with the thread
        that has started them, not with the process: a caller's own thread may end long before
        the session does.
        """
        opened: Future[None] = Future()
        over = threading.Event()
        undo.callback(over.set)

        def keep() -> None:
            try:
                initialise(self._ray, address, options)
            except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
                opened.set_exception(error)
                return
            opened.set_result(None)
            over.wait()

        place = "Ray to start" if address is None else f"the Ray cluster at {address}"
        with keeping_sigterm():
            threading.Thread(target=keep, name="archscout-ray", daemon=True).start()
            try:
                result_of(opened, limit_s=START_S, slow=lambda: tell(f"waiting for {place}"))
            except NoAnswerError as error:
                self._abandon()
                text = f"Ray did not start within {START_S:.0f} s. `archscout resume` tries again"
                raise EngineLostError(text) from error

    def _end(self, *, lost: bool) -> None:
        Session._current = None
        with self._undo:
            if not self._owned:
                return
            if lost:
                _kill_processes()
                gc.freeze()  # placement groups left behind would ask the head to free them
                self._undo.callback(gc.unfreeze)
            try:
                if not self.stuck:
                    call(lambda: self._ray.shutdown(wait_for_processes=True), limit_s=END_S)
            except NoAnswerError:
                self.stuck = True
            if self.stuck:
                self._abandon()

    def _abandon(self) -> None:
        """Leave a Ray that a thread of ours is still inside of.

        Ray 2.60 ends this process when its parts are used after `ray.shutdown`: so nothing of it
        is touched again, and only what we have started is killed.
        """
        Session._unusable = True
        from ray._private import worker  # noqa: PLC0415
        from ray.experimental import internal_kv  # noqa: PLC0415

        atexit.unregister(worker.shutdown)
        worker.global_worker.threads_stopped.set()  # its listener would keep a core busy
        internal_kv._internal_kv_reset()  # type: ignore[no-untyped-call]  # noqa: SLF001
        _kill_processes()


def _kill_processes() -> None:
    """Kill the processes of a cluster that we have started ourselves."""
    from ray._private import worker  # noqa: PLC0415

    node = worker._global_node  # noqa: SLF001
    if node is not None and node.is_head():
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def _scratch(undo: contextlib.ExitStack) -> Scratch:
    """Make the session's folder, which goes with the session or with the process."""
    scratch = Scratch.create()
    atexit.register(scratch.remove)
    undo.callback(atexit.unregister, scratch.remove)
    undo.callback(scratch.remove)
    return scratch


@contextlib.contextmanager
def _environment(private: Path | None) -> Iterator[None]:
    """Say to Ray what it reads from the environment, and take it back afterwards.

    Args:
        private: The folder for the token of a cluster that others must not join.
    """
    wanted = dict(_QUIET) if private is None else {**_QUIET, **_keep_to_ourselves(private)}
    before = set(os.environ)
    os.environ.update({key: value for key, value in wanted.items() if key not in before})
    _read_again()
    try:
        yield
    finally:
        for key in set(os.environ) - before:
            # Ray adds some of its own, and takes `breakpoint()` from the user.
            if key in wanted or key.startswith(("RAY_", "TUNE_")) or key == "PYTHONBREAKPOINT":
                del os.environ[key]
        _read_again()


def _read_again() -> None:
    """Let a Ray that is loaded read the environment again: it remembers what it has seen."""
    if "ray._raylet" in sys.modules:
        from ray._raylet import (  # type: ignore[attr-defined]  # noqa: PLC0415 - not in its stubs
            AuthenticationTokenLoader,
            Config,
        )

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def _keep_to_ourselves(scratch: Path) -> dict[str, str]:
    """Let a cluster of our own listen on loopback alone, and to holders of a token alone."""
    token = scratch / "ray.token"
    with os.fdopen(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return {
        # Ray 2.60 binds every interface on Linux; this switch, meant for other systems, undoes it.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


def _addresses(ray: Any) -> tuple[str, str]:
    """Where the head and the node of this process listen.

    Raises:
        EngineLostError: They do not answer.
    """
    context = ray.get_runtime_context()
    head, own = context.gcs_address, context.get_node_id()
    lost = EngineLostError(
        f"Ray, which this process is connected to, does not answer at {head}. End it with "
        "`ray.shutdown()`, or start a new Python process"
    )
    if not answers(head):
        raise lost
    try:
        nodes = call(ray.nodes, limit_s=CALL_S)
    except NoAnswerError as error:
        raise lost from error
    [node] = [node for node in nodes if node["NodeID"] == own]
    return head, f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
