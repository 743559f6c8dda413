"""Parent of the clean process, in which a registered model predicts without archscout."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import PromotionRefusedError
from orchestrator.tracking.addresses import registry_uri
from orchestrator.tracking.environment import longest_timeout, mlflow_environment
from workers.redaction import redact

_LOG = "log"
_PROGRAM = Path(__file__).with_name("clean_process.py")


class VerifiedModel(Protocol):
    """Port to a model that was fetched back and verified."""

    def predict(self, examples: NDArray[Any]) -> Mapping[str, list[Any]]:
        """Return the `label` of each example, if there are classes, and `value_NAME` per target."""
        ...

    def file(self, name: str) -> bytes | None:
        """Return the bytes of one of its files, by its path in the model; None if there is none."""
        ...


class CleanModel:
    """Registered model, loaded in its own process and folder."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path, log: Path) -> None:
        self._process = process
        self._folder = folder
        self._log = log

    def predict(self, examples: NDArray[Any]) -> Mapping[str, list[Any]]:
        """Return labels and predicted values of examples, by plain `mlflow.pyfunc`.

        Raises:
            PromotionRefusedError: The model fails.
        """
        path = self._folder / "examples.npy"
        np.save(path, examples, allow_pickle=False)
        predictions: Mapping[str, list[Any]] = self.request({"inputs": str(path)})["predictions"]
        return predictions

    def file(self, name: str) -> bytes | None:
        """Return the bytes of a verified file, by its path in the model; None if there is none."""
        path = self._folder / "verified" / name
        return path.read_bytes() if path.is_file() else None

    def request(self, document: Mapping[str, str]) -> dict[str, Any]:
        """Send a request and return the response.

        Raises:
            PromotionRefusedError: The response is an error, or the process ended.
        """
        try:
            line = self._exchange(json.dumps(document))
        except OSError:
            line = ""
        if not line:
            last = (self._log.read_text(errors="replace").strip().splitlines() or [""])[-1]
            raise PromotionRefusedError(
                f"the clean process that loads the model ended: {redact(last)[:300]}"
            )
        response: dict[str, Any] = json.loads(line)
        if "error" in response:
            reason = redact(str(response["error"]))[:1000]
            raise PromotionRefusedError(f"fetched back from MLflow, the model fails: {reason}")
        return response

    def _exchange(self, line: str) -> str:
        requests, responses = self._pipe(self._process.stdin), self._pipe(self._process.stdout)
        requests.write(line + "\n")
        requests.flush()
        return responses.readline()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None  # noqa: S101  # Both are opened below.
        return pipe


@contextmanager
def open_clean_model(
    uri: str, tracking_uri: str, manifest_sha256: str, code: Mapping[str, str] | None
) -> Iterator[CleanModel]:
    """Open a registered model, fetched back and verified where archscout cannot be imported.

    Args:
        uri: `models:/NAME/VERSION`.
        tracking_uri: MLflow's store.
        manifest_sha256: Expected digest of the model's manifest.
        code: Expected digests of its code files; None if the ledger recorded the manifest, which
            covers them.

    Raises:
        PromotionRefusedError: A file is missing or differs, or the model does not load.
    """
    with tempfile.TemporaryDirectory(prefix="archscout-clean-") as name:
        folder = Path(name)
        process = _start(folder, tracking_uri)
        try:
            model = CleanModel(process, folder, folder / _LOG)
            document = {"model": uri, "manifest_sha256": manifest_sha256, "code": json.dumps(code)}
            model.request(document)
            yield model
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _start(folder: Path, tracking_uri: str) -> "subprocess.Popen[str]":
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    made = mlflow_environment(environment)
    with (folder / _LOG).open("w") as log:
        return subprocess.Popen(  # noqa: S603  # Our own program.
            [sys.executable, "-I", "-B", "-W", "ignore", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
            # The address may contain a password: only the owner can read the environment.
            env={
                **made,
                # It only reads files, by MLflow's own client.
                "MLFLOW_HTTP_REQUEST_TIMEOUT": longest_timeout(made),
                # Usually as in training: rounding depends on the number of threads.
                "OMP_NUM_THREADS": "1",
                "MLFLOW_TRACKING_URI": tracking_uri,
                "MLFLOW_REGISTRY_URI": registry_uri(tracking_uri),
            },
        )
