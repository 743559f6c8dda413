"""A process that knows nothing of archscout: fetches a model back from MLflow, proves it, answers.

Run by path with `python -I` in an empty folder, where `proved` then holds the model's files. Reads
one JSON document a line, answers one a line. Whatever libraries print goes to standard error.
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


class _Absent:
    """Makes archscout as good as not installed; a model that needs it does not load here."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> None:
        """Python's question to a finder."""
        if name.partition(".")[0] in _OURS:
            raise ModuleNotFoundError(f"{name} is not in the model", name=name)


def main() -> None:
    """Fetch the model that the first line names, then answer for what the next lines name."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    absent: Any = _Absent()
    sys.meta_path.insert(0, absent)
    for answer in _answers(sys.stdin):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answers(requests: IO[str]) -> Iterator[Mapping[str, Any]]:
    try:
        model = _proved_model(json.loads(requests.readline()), Path.cwd())
        yield {"ready": True}
        for line in requests:
            yield {"answers": _answered(model, json.loads(line)["inputs"])}
    except Exception as error:  # noqa: BLE001 - told to the parent, which refuses the model
        yield {"error": f"{type(error).__name__}: {error}"}


def _proved_model(request: Mapping[str, str], folder: Path) -> Any:
    """The model as MLflow loads it, from files that were fetched back and proved."""
    import mlflow.artifacts  # noqa: PLC0415 - once archscout is out of sight
    import mlflow.pyfunc  # noqa: PLC0415 - as above

    manifest = _load_manifest_module()
    (folder / "fetched").mkdir()
    fetched = Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=request["model"], dst_path=str(folder / "fetched")
        )
    )
    proved = folder / "proved"
    proved.mkdir()
    digests = manifest.verified_copy(fetched, proved, request["manifest_sha256"])
    if (expected := json.loads(request["code"])) is not None:
        code = {name: digest for name, digest in digests.items() if name.endswith(".py")}
        for name in sorted({*expected, *code}):
            if code.get(name) != expected.get(name):
                raise ValueError(f"{name} is not archscout's own")
    return mlflow.pyfunc.load_model(str(proved))


def _answered(model: Any, path: str) -> dict[str, list[Any]]:
    """Label and numbers of each example, by the column's name."""
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
