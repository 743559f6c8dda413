"""MLflow's server on this machine: starts it, finds a study's page, and ends it with its workers.

Uses only mlflow's command. Loopback only; in a process group of its own, because killing only the
main process leaves workers on the port (mlflow 3.17.2).
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator import file_permissions
from orchestrator.tracking.addresses import (
    VIEW_TAG,
    is_database,
    is_server,
    public_address,
    registry_uri,
    require_usable,
    runs_page,
)
from orchestrator.tracking.environment import mlflow_environment
from search_spaces.errors import ArchscoutError, ExitCode

HOST = "127.0.0.1"

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses of this machine without the proxy of the environment."""

_START_TIMEOUT_S = 120.0
_PORTS = 20
"""Number of consecutive ports to try."""


class ServerError(ArchscoutError):
    """MLflow's server did not start; the message has the reason and the path of its log."""

    exit_code = ExitCode.INPUT


class MlflowServer:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self._process = process
        self.url = url
        """Address without a path."""

    def experiment_url(self, experiment: str) -> str | None:
        """Return the address of an experiment's page; None if there is no such experiment."""
        name = urllib.parse.quote(experiment, safe="")
        path = f"{self.url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
        try:
            with _DIRECT.open(path, timeout=10) as response:
                found = json.load(response)
        except urllib.error.HTTPError:
            return None
        shown = found["experiment"]
        view = any(tag["key"] == VIEW_TAG for tag in shown.get("tags", ()))
        return f"{self.url}/{runs_page(shown['experiment_id'], view=view)}"

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit status."""
        return self._process.wait()

    def close(self) -> None:
        """Terminate it with all its workers."""
        for stop, timeout_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=timeout_s)
                break
        # Workers that survived their parent are still in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def start_server(*, home: Path, tracking_uri: str, port: int | None = None) -> MlflowServer:
    """Start MLflow's server on a database.

    Args:
        home: Folder of artifacts and of the server's log.
        tracking_uri: SQLAlchemy URL of MLflow's database.
        port: Port to listen on; None takes 5000 or the next free one.

    Raises:
        ServerError: The port is taken, or the server did not respond in time.
    """
    chosen = _free_port(5000, _PORTS) if port is None else _free_port(port, 1)
    log_path = home / "logs" / "mlflow-server.log"
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--workers", "1"]
    with log_path.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # MLflow's own command.
            [*command, "--host", HOST, "--port", str(chosen)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(home, tracking_uri),
            start_new_session=True,
            umask=file_permissions.UMASK,
        )
    server = MlflowServer(process, f"http://{HOST}:{chosen}")
    try:
        _await_response(process, server.url, log_path)
    except BaseException:
        server.close()
        raise
    return server


def _environment(home: Path, tracking_uri: str) -> dict[str, str]:
    defaults = {
        "MLFLOW_ARTIFACTS_DESTINATION": str((home / "artifacts").absolute()),
        # Its job workers take about 240 MB each.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",
    }
    # A database's address may contain a password: keep it off the command line.
    address = {"MLFLOW_BACKEND_STORE_URI": tracking_uri}
    registry = registry_uri(tracking_uri)
    if is_database(registry):  # a server cannot show the models of another server
        defaults["MLFLOW_REGISTRY_STORE_URI"] = registry
    return {**mlflow_environment(os.environ, **defaults), **address}


def serve(
    *,
    home: Path,
    tracking_uri: str,
    experiment: str | None,
    port: int | None,
    say: Callable[[str], None],
) -> None:
    """Run the server until interrupted, and print the address.

    Args:
        home: Folder of artifacts and of the server's log.
        tracking_uri: MLflow's database, or the address of a running server.
        experiment: Experiment whose page to link; None links the list of all.
        port: Port to listen on; None takes 5000 or the next free one.
        say: Prints a line for the user.

    Raises:
        ServerError: The server did not start.
        StoreAddressError: MLflow cannot be used at the address.
    """
    require_usable(tracking_uri)
    if is_server(tracking_uri):
        say(f"MLflow: {public_address(tracking_uri)}")
        return
    with _terminable():
        server = start_server(home=home, tracking_uri=tracking_uri, port=port)
        try:
            page = server.experiment_url(experiment) if experiment else None
            say(f"MLflow: {page or server.url}")
            say("Press Ctrl-C to stop.")
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.close()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, so that the server goes with it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _free_port(first: int, count: int) -> int:
    for port in range(first, first + count):
        with socket.socket() as probe:
            # As the server does: a port held only by a closed connection is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    taken = f"port {first} is" if count == 1 else f"ports {first} to {first + count - 1} are"
    raise ServerError(f"{taken} taken on {HOST}; choose another with --port")


def _await_response(process: "subprocess.Popen[bytes]", url: str, log_path: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"MLflow's server ended at once; its log: {log_path}")
        try:
            with _DIRECT.open(f"{url}/health", timeout=2):
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
    raise ServerError(
        f"MLflow's server did not respond within {_START_TIMEOUT_S:g} s; its log: {log_path}"
    )
