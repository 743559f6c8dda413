"""The driver's side of the projection: starts the process, waits for it at the end, no more.

Knows no mlflow. The process lives as long as its standard input is open: a driver that dies closes
it, whatever the reason.
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
    """Shows a study to people while it runs; never waited for but here."""

    @property
    def reason(self) -> str:
        """Why not all is shown; empty if that is not known."""
        ...

    def drain(self, timeout_s: float, on_left: Callable[[int], None] | None = None) -> bool:
        """Wait until all that is recorded is shown.

        Args:
            timeout_s: How long at most.
            on_left: Told now and then how many events are left.

        Returns:
            Whether nothing is left.
        """
        ...

    def cancel_wait(self) -> None:
        """Cut a `drain` short that waits in another thread."""
        ...

    def close(self) -> None:
        """Stop showing; what is not shown waits in the ledger."""
        ...


class ProjectorProcess:
    """The projection of one study, running beside its driver."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        on_behind: Callable[[str], None] | None = None,
    ) -> None:
        """Listen to a process that was started.

        Args:
            process: The process.
            on_behind: Told in a thread of its own why the store takes nothing, whenever the reason
                is a new one.
        """
        self._process = process
        self._on_behind = on_behind
        self._on_left: Callable[[int], None] | None = None
        self._answered = threading.Event()
        self._complete = False
        self.reason = ""
        """Why not all is shown, as the store or its library said it; empty if that is not known."""
        self._listener = threading.Thread(target=self._listen, name="projector", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def drain(self, timeout_s: float, on_left: Callable[[int], None] | None = None) -> bool:
        """Wait until all that is recorded is shown, leaderboard and plots too.

        Args:
            timeout_s: How long at most.
            on_left: Told now and then how many events are left.

        Returns:
            Whether nothing is left; False also where the process has died.
        """
        self._complete = False
        self._answered.clear()
        self._on_left = on_left
        try:
            self._pipe(self._process.stdin).write(b"drain\n")
        except (OSError, ValueError):  # it has ended, or `hurry` was first
            return False
        self._answered.wait(timeout_s)
        return self._complete

    def _listen(self) -> None:
        """Take in what the process says, until it ends."""
        try:
            with self._pipe(self._process.stdout) as answers:
                for line in answers:
                    word, _, text = line.decode(errors="replace").strip().partition(" ")
                    self._hear(word, text)
        finally:
            self._answered.set()

    def _hear(self, word: str, text: str) -> None:
        if word in {"behind", "lacking"}:
            self.reason = text
        elif word in {"again", "drained"}:
            self.reason = ""
        if word == "left" and self._on_left is not None:
            self._on_left(int(text))
        elif word == "behind" and self._on_behind is not None:
            self._on_behind(text)
        elif word in {"drained", "lacking"}:
            self._complete = word == "drained"
            self._answered.set()

    def cancel_wait(self) -> None:
        """Let the process end by itself; a `drain` that waits in another thread returns at once."""
        with contextlib.suppress(OSError):
            self._pipe(self._process.stdin).close()
        self._answered.set()

    def close(self) -> None:
        """End the process; a kill in mid-work is harmless, for it starts again where it was."""
        self.cancel_wait()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(2)

    @staticmethod
    def _pipe(pipe: "io.BufferedIOBase | object | None") -> "io.FileIO":
        assert isinstance(pipe, io.FileIO)  # noqa: S101  # Both were opened unbuffered below.
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
        home: Folder for artifacts, logs and the lock that keeps a second projector out.
        tracking_uri: MLflow's store.
        on_behind: Told, in another thread, why MLflow takes nothing.

    Returns:
        The process, already under way; it waits for an earlier one of the same study to end.
    """
    folder = beneath(home / "logs" / study, home / "logs")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "orchestrator.tracking.projector"]
    # Addresses may hold passwords: they travel in the environment, which only the owner can read.
    secrets = {"ARCHSCOUT_LEDGER": ledger_url, "MLFLOW_TRACKING_URI": tracking_uri}
    # The projection itself repeats what failed, and looks for an order in between.
    environment = mlflow_environment(
        os.environ,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT="60",
    )
    with (folder / "projector.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # Our own module, with a validated name.
            [*command, "--study", study, "--home", str(home.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            env={**environment, "OMP_NUM_THREADS": "1", **secrets},
            start_new_session=True,  # A Ctrl-C at the terminal is the driver's to answer.
            umask=file_permissions.UMASK,
        )
    return ProjectorProcess(process, on_behind)
