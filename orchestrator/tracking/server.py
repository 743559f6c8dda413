"""MLflow's own pages on this machine: starts the server, says where a study stands, ends it whole.

Knows no mlflow beyond its command. Loopback only; one process group, because a server whose main
process alone is killed leaves workers on the port (mlflow 3.17.2).
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
"""Opens addresses of this machine, which a proxy that the environment names cannot reach."""

_START_S = 120.0
_PORTS = 20
"""How many ports from the wanted one on are tried."""


class ServerError(ArchscoutError):
    """MLflow's server did not start; the message says why and where its log lies."""

    exit_code = ExitCode.INPUT


class MlflowServer:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self._process = process
        self.url = url
        """Its address, without a path."""

    def experiment_url(self, experiment: str) -> str | None:
        """Address of an experiment's page; None if there is no such experiment."""
        name = urllib.parse.quote(experiment, safe="")
        path = f"{self.url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
        try:
            with _DIRECT.open(path, timeout=10) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError:
            return None
        shown = found["experiment"]
        view = any(tag["key"] == VIEW_TAG for tag in shown.get("tags", ()))
        return f"{self.url}/{runs_page(shown['experiment_id'], view=view)}"

    def wait(self) -> int:
        """Wait until it ends by itself; its exit status."""
        return self._process.wait()

    def close(self) -> None:
        """End it with all its workers."""
        for ending, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=patience)
                break
        # Workers that outlived their parent are still in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def start_server(*, home: Path, tracking_uri: str, port: int | None = None) -> MlflowServer:
    """Serve MLflow's pages over a store.

    Args:
        home: Folder for artifacts and the server's log.
        tracking_uri: SQLAlchemy URL of MLflow's database.
        port: Where to listen; None takes 5000 or the next free one.

    Raises:
        ServerError: The port is taken, or the server did not answer in time.
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
        _await_answer(process, server.url, log_path)
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
    # A database's address may hold a password: not on the command line.
    address = {"MLFLOW_BACKEND_STORE_URI": tracking_uri}
    registry = registry_uri(tracking_uri)
    if is_database(registry):  # a server does not show the models of another server
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
    """Serve until interrupted, saying where to look.

    Args:
        home: Folder for artifacts and the server's log.
        tracking_uri: MLflow's database, or the address of a server that runs already.
        experiment: Whose page to point to; None points to the list of all.
        port: Where to listen; None takes 5000 or the next free one.
        say: Told each line for the user.

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
            say("Ctrl-C ends it.")
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
            # As the server itself will: a port that a closed connection still holds is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    taken = f"port {first} is" if count == 1 else f"ports {first} to {first + count - 1} are"
    raise ServerError(f"{taken} taken on {HOST}; choose another with --port")


def _await_answer(process: "subprocess.Popen[bytes]", url: str, log_path: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"MLflow's server ended at once; its log: {log_path}")
        try:
            with _DIRECT.open(f"{url}/health", timeout=2):
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
    raise ServerError(f"MLflow's server did not answer within {_START_S:g} s; its log: {log_path}")
