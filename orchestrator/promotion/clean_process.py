"""Process without archscout: fetches a model back from MLflow, verifies it and predicts.

Run by path with `python -I` in an empty folder, where `verified` then contains the model's files.
Reads one JSON document a line and responds with one a line. Output of libraries goes to stderr.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any

_OURS = frozenset({"orchestrator", "workers", "search_spaces"})


class _HideArchscout:
    """Import hook that hides archscout, so that a model that needs it does not load."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> None:
        """Refuse modules of archscout (protocol of `sys.meta_path`)."""
        if name.partition(".")[0] in _OURS:
            raise ModuleNotFoundError(f"{name} is not in the model", name=name)


def main() -> None:
    """Fetch the model of the first line, then predict for the arrays of the next lines."""
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    hook: Any = _HideArchscout()
    sys.meta_path.insert(0, hook)
    for response in _respond(sys.stdin):
        responses.write(json.dumps(response) + "\n")
        responses.flush()


def _respond(requests: IO[str]) -> Iterator[Mapping[str, Any]]:
    try:
        model = _verified_model(json.loads(requests.readline()), Path.cwd())
        yield {"ready": True}
        for line in requests:
            yield {"predictions": _predict(model, json.loads(line)["inputs"])}
    except Exception as error:  # noqa: BLE001 - the parent refuses the model
        yield {"error": f"{type(error).__name__}: {error}"}


def _verified_model(request: Mapping[str, str], folder: Path) -> Any:
    """Return the model as MLflow loads it, from fetched and verified files."""
    import mlflow.artifacts  # noqa: PLC0415 - after archscout is hidden
    import mlflow.pyfunc  # noqa: PLC0415 - as above

    manifest = _load_manifest_module()
    (folder / "fetched").mkdir()
    fetched = Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=request["model"], dst_path=str(folder / "fetched")
        )
    )
    verified = folder / "verified"
    verified.mkdir()
    digests = manifest.verified_copy(fetched, verified, request["manifest_sha256"])
    if (expected := json.loads(request["code"])) is not None:
        code = {name: digest for name, digest in digests.items() if name.endswith(".py")}
        for name in sorted({*expected, *code}):
            if code.get(name) != expected.get(name):
                raise ValueError(f"{name} is not archscout's own")
    return mlflow.pyfunc.load_model(str(verified))


def _predict(model: Any, path: str) -> dict[str, list[Any]]:
    """Return labels and predicted values of the examples, by column."""
    import numpy as np  # noqa: PLC0415 - as above

    table = model.predict(np.load(path, allow_pickle=False))
    return {
        name: table[name].tolist()
        for name in table.columns
        if name == "label" or name.startswith("value_")
    }


def _load_manifest_module() -> Any:
    """Load `workers/manifest.py`, which needs no other module of ours, by its path."""
    path = Path(__file__).parents[2] / "workers" / "manifest.py"
    spec = importlib.util.spec_from_file_location("archscout_manifest", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
