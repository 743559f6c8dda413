"""The parent's side of the clean process: what a model answers where archscout is not installed."""

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
    """A model that was fetched back and has proved its files."""

    def answers(self, examples: NDArray[Any]) -> Mapping[str, list[Any]]:
        """The `label` of each example, if it has one, and its numbers as `value_NAME`."""
        ...

    def file(self, name: str) -> bytes | None:
        """The bytes of one of its files, by its place in the model; None if it has no such file."""
        ...


class CleanModel:
    """A registered model, loaded in a process and a folder of its own."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path, log: Path) -> None:
        self._process = process
        self._folder = folder
        self._log = log

    def answers(self, examples: NDArray[Any]) -> Mapping[str, list[Any]]:
        """Label and numbers of each example, by plain `mlflow.pyfunc`.

        Raises:
            PromotionRefusedError: The model does not answer.
        """
        path = self._folder / "examples.npy"
        np.save(path, examples, allow_pickle=False)
        answers: Mapping[str, list[Any]] = self.ask({"inputs": str(path)})["answers"]
        return answers

    def file(self, name: str) -> bytes | None:
        """Return the bytes of a proved file, by its place in the model; None if there is none."""
        path = self._folder / "proved" / name
        return path.read_bytes() if path.is_file() else None

    def ask(self, request: Mapping[str, str]) -> dict[str, Any]:
        """One question and its answer.

        Raises:
            PromotionRefusedError: The answer is an error, or there is none.
        """
        try:
            line = self._exchange(json.dumps(request))
        except OSError:
            line = ""
        if not line:
            last = (self._log.read_text(errors="replace").strip().splitlines() or [""])[-1]
            raise PromotionRefusedError(
                f"the clean process that loads the model ended: {redact(last)[:300]}"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            why = redact(str(answer["error"]))[:1000]
            raise PromotionRefusedError(f"fetched back from MLflow, the model fails: {why}")
        return answer

    def _exchange(self, line: str) -> str:
        requests, answers = self._pipe(self._process.stdin), self._pipe(self._process.stdout)
        requests.write(line + "\n")
        requests.flush()
        return answers.readline()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None  # noqa: S101  # Both were opened below.
        return pipe


@contextmanager
def clean_room(
    uri: str, tracking_uri: str, manifest_sha256: str, code: Mapping[str, str] | None
) -> Iterator[CleanModel]:
    """A registered model, fetched back and proved where archscout cannot be imported.

    Args:
        uri: `models:/NAME/VERSION`.
        tracking_uri: MLflow's store.
        manifest_sha256: What the model's manifest must hash to.
        code: What its code files must hash to; None where the ledger recorded the manifest, which
            then vouches for them.

    Raises:
        PromotionRefusedError: A file is missing or differs, or the model does not load.
    """
    with tempfile.TemporaryDirectory(prefix="archscout-clean-") as name:
        folder = Path(name)
        process = _start(folder, tracking_uri)
        try:
            model = CleanModel(process, folder, folder / _LOG)
            request = {"model": uri, "manifest_sha256": manifest_sha256, "code": json.dumps(code)}
            model.ask(request)
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
            # The address may hold a password: in the environment, which only we can read.
            env={
                **made,
                # It reads files alone, by MLflow's own client.
                "MLFLOW_HTTP_REQUEST_TIMEOUT": longest_timeout(made),
                # As the trial was judged, as a rule: sums are rounded by the thread.
                "OMP_NUM_THREADS": "1",
                "MLFLOW_TRACKING_URI": tracking_uri,
                "MLFLOW_REGISTRY_URI": registry_uri(tracking_uri),
            },
        )
