"""A store on loopback that fsspec opens as `webhdfs://`: files over HTTP, without a shared disk."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MISSING = {"RemoteException": {"exception": "FileNotFoundException", "message": "not there"}}


class Store:
    """Contents by path; and whether it works."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders: set[str] = {"/data"}
        self.fails = False
        self.url = ""

    def beneath(self, path: str) -> dict[str, bytes]:
        """The files in a folder and all below it."""
        inside = path.rstrip("/") + "/"
        return {name: held for name, held in self.files.items() if name.startswith(inside)}

    def status(self, path: str) -> dict[str, Any] | None:
        if path in self.files:
            return {"type": "FILE", "length": len(self.files[path])}
        return {"type": "DIRECTORY", "length": 0} if path in self.folders else None

    def create(self, path: str, asked: dict[str, str], body: bytes) -> Any:
        parts = path.split("/")
        self.folders |= {"/".join(parts[:length]) for length in range(2, len(parts))}
        self.files[path] = b""
        return {}

    def append(self, path: str, asked: dict[str, str], body: bytes) -> Any:
        self.files[path] += body
        return {}

    def delete(self, path: str, asked: dict[str, str], body: bytes) -> Any:
        for held in [path, *self.beneath(path)]:
            self.files.pop(held, None)
        self.folders -= {folder for folder in self.folders if f"{folder}/".startswith(f"{path}/")}
        return {"boolean": True}

    def open(self, path: str, asked: dict[str, str], body: bytes) -> Any:
        start = int(asked.get("offset", 0))
        return self.files[path][start : start + int(asked["length"])]

    def getfilestatus(self, path: str, asked: dict[str, str], body: bytes) -> Any:
        return (found := self.status(path)) and {"FileStatus": found}

    def liststatus(self, path: str, asked: dict[str, str], body: bytes) -> Any:
        if self.status(path) is None:
            return None
        names = {
            held.removeprefix(f"{path}/")
            for held in [*self.files, *self.folders]
            if held.rpartition("/")[0] == path
        }
        listed = [{**(self.status(f"{path}/{name}") or {}), "pathSuffix": name} for name in names]
        return {"FileStatuses": {"FileStatus": listed}}


@contextmanager
def serving() -> Iterator[Store]:
    """The store, answering on loopback."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            address = urlsplit(self.path)
            asked = {key: values[0] for key, values in parse_qs(address.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            op, path = asked["op"], address.path.removeprefix("/webhdfs/v1").rstrip("/") or "/"
            if op in {"CREATE", "APPEND"} and "there" not in asked:
                self.send_response(307)  # name node and data node are one here
                self.send_header("Location", f"http://{self.headers['Host']}{self.path}&there=1")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            found = None if store.fails else getattr(store, op.lower())(path, asked, body)
            raw = found if isinstance(found, bytes) else json.dumps(found or MISSING).encode()
            self.send_response(500 if store.fails else 404 if found is None else 200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PUT = do_POST = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            """Never read."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    store.url = f"webhdfs://127.0.0.1:{server.server_address[1]}/data/checkpoints"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
