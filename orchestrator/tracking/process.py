"""Driver's side of the projection: starts its process and waits for it at the end.

Does not load mlflow. The process runs as long as its standard input is open, which closes when the
driver dies for any reason.
"""

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from orchestrator import file_permissions
from orchestrator.tracking.environment import mlflow_environment
from workers.paths import beneath


class Tracker(Protocol):
    """Port to an experiment tracker, which shows a study while it runs.

    The search never waits for it, except in `drain`.
    """

    @property
    def reason(self) -> str:
        """Reason why some events are not shown; empty if unknown."""
        ...

    def drain(self, timeout_s: float, on_remaining: Callable[[int], None] | None = None) -> bool:
        """Wait until all recorded events are shown.

        Args:
            timeout_s: Timeout in seconds.
            on_remaining: Called now and then with the number of events that are not shown.

        Returns:
            True if all are shown.
        """
        ...

    def cancel_wait(self) -> None:
        """Let a `drain` in another thread return at once."""
        ...

    def close(self) -> None:
        """Stop; events that are not shown stay in the ledger."""
        ...


class ProjectorProcess:
    """Process of the projection of one study.

    Examples:
        >>> tracker = start_projector(ledger_url=url, study="mine", home=home, tracking_uri=uri)
        >>> complete = tracker.drain(timeout_s=60)
        >>> tracker.close()
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        on_behind: Callable[[str], None] | None = None,
    ) -> None:
        """Read the messages of a started process.

        Args:
            process: The process.
            on_behind: Called in another thread with the reason why the store accepts nothing,
                whenever the reason changes.
        """
        self._process = process
        self._on_behind = on_behind
        self._on_remaining: Callable[[int], None] | None = None
        self._done = threading.Event()
        self._complete = False
        self.reason = ""
        """Reason why some events are not shown, from the store or its library; empty if unknown."""
        self._reader = threading.Thread(target=self._read, name="projector", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def drain(self, timeout_s: float, on_remaining: Callable[[int], None] | None = None) -> bool:
        """Wait until all recorded events are shown, including leaderboard and plots.

        Args:
            timeout_s: Timeout in seconds.
            on_remaining: Called now and then with the number of events that are not shown.

        Returns:
            True if all are shown; False also if the process has died.
        """
        self._complete = False
        self._done.clear()
        self._on_remaining = on_remaining
        try:
            self._pipe(self._process.stdin).write(b"drain\n")
        except (OSError, ValueError):  # it has ended, or `cancel_wait` was first
            return False
        self._done.wait(timeout_s)
        return self._complete

    def _read(self) -> None:
        """Read the messages of the process until it ends."""
        try:
            with self._pipe(self._process.stdout) as messages:
                for line in messages:
                    kind, _, text = line.decode(errors="replace").strip().partition(" ")
                    self._handle(kind, text)
        finally:
            self._done.set()

    def _handle(self, kind: str, text: str) -> None:
        if kind in {"behind", "incomplete"}:
            self.reason = text
        elif kind in {"recovered", "drained"}:
            self.reason = ""
        if kind == "remaining" and self._on_remaining is not None:
            self._on_remaining(int(text))
        elif kind == "behind" and self._on_behind is not None:
            self._on_behind(text)
        elif kind in {"drained", "incomplete"}:
            self._complete = kind == "drained"
            self._done.set()

    def cancel_wait(self) -> None:
        """Let the process end by itself; a `drain` in another thread returns at once."""
        with contextlib.suppress(OSError):
            self._pipe(self._process.stdin).close()
        self._done.set()

    def close(self) -> None:
        """End the process; a kill is harmless, because the next one continues from the cursor."""
        self.cancel_wait()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(2)

    @staticmethod
    def _pipe(pipe: "io.BufferedIOBase | object | None") -> "io.FileIO":
        assert isinstance(pipe, io.FileIO)  # noqa: S101  # Both are opened unbuffered below.
        return pipe


def start_projector(
    *,
    ledger_url: str,
    study: str,
    home: Path,
    tracking_uri: str,
    on_behind: Callable[[str], None] | None = None,
) -> ProjectorProcess:
    """Start showing a study in MLflow.

    Args:
        ledger_url: SQLAlchemy URL of the ledger.
        study: The study's name; it must exist in the ledger.
        home: Folder of artifacts, logs and the lock that excludes a second projection.
        tracking_uri: MLflow's store.
        on_behind: Called in another thread with the reason why MLflow accepts nothing.

    Returns:
        The running process; it waits for an earlier one of the same study to end.
    """
    folder = beneath(home / "logs" / study, home / "logs")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "orchestrator.tracking.projector"]
    with (folder / "projector.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # Our own module, with a validated name.
            [*command, "--study", study, "--home", str(home.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            env=_environment(ledger_url, tracking_uri),
            start_new_session=True,  # Only the driver handles a Ctrl-C at the terminal.
            umask=file_permissions.UMASK,
        )
    return ProjectorProcess(process, on_behind)


def _environment(ledger_url: str, tracking_uri: str) -> dict[str, str]:
    # The projection itself retries, and reads the driver's messages in between.
    environment = mlflow_environment(
        os.environ,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT="60",
    )
    # Addresses may contain passwords: only the owner can read a process's environment.
    secrets = {"ARCHSCOUT_LEDGER": ledger_url, "MLFLOW_TRACKING_URI": tracking_uri}
    return {**environment, "OMP_NUM_THREADS": "1", **secrets}
