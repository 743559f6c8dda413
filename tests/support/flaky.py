"""A proxy on loopback that breaks some of the calls to the server behind it."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Flaky:
    """What happens to each call in turn, and how often each has happened."""

    def __init__(
        self, upstream: str, faults: Sequence[str], creating: Sequence[str], slow_s: float
    ) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.slow_s = slow_s
        self.done: Counter[str] = Counter()
        self.url = ""
        self._faults, self._creating = iter(faults), iter(creating)
        self._lock = threading.Lock()

    def fault(self, path: str) -> str:
        """What happens to this call: `ok`, `slow`, `500`, `429`, or `cut` after it was obeyed."""
        with self._lock:
            faults = self._creating if path.endswith("/runs/create") else self._faults
            fault = next(faults, "ok")
            self.done[fault] += 1
            return fault


@contextmanager
def flaky(
    upstream: str, faults: Sequence[str], *, creating: Sequence[str], slow_s: float = 2.0
) -> Iterator[Flaky]:
    """The proxy, while it runs.

    Args:
        upstream: The server behind it.
        faults: What the first calls meet, in their order; later ones pass.
        creating: The same of the calls that create runs.
        slow_s: How long a slow call takes.
    """
    state = Flaky(upstream, faults, creating, slow_s)

    class Proxy(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = state.fault(urlsplit(self.path).path)
            if fault in {"500", "429"}:
                self.send_response(int(fault))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "slow":
                time.sleep(state.slow_s)
            behind = http.client.HTTPConnection(state.upstream, timeout=60)
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            body = answer.read()
            behind.close()
            if fault == "cut":  # it is committed, and no client learns of it
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = _pass

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # the connection that was cut
                super().handle()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
