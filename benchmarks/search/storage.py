"""Stored runs: JSON lines of measurements in progress, and compressed results in the repository."""

import json
import lzma
from collections.abc import Iterable
from pathlib import Path

from benchmarks.search.runs import Run

OUT = Path("results/search")
"""Folder of measurements in progress: one file a suite and method."""
RESULTS = Path(__file__).parent / "results" / "runs"
"""Folder of the repository's results: one compressed file a suite."""


def run_file(folder: Path, suite: str, method: str) -> Path:
    """Return the file of a method's runs in progress."""
    return folder / suite / f"{method.replace(' ', '_')}.jsonl"


def append(folder: Path, suite: str, run: Run) -> None:
    """Add a run to a measurement in progress."""
    path = run_file(folder, suite, run.method)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(run.to_dict()) + "\n")


def in_progress(folder: Path, suite: str, method: str) -> list[Run]:
    """Return a method's runs in progress."""
    path = run_file(folder, suite, method)
    return _parse(path.read_text().splitlines()) if path.exists() else []


def stored(suite: str, method: str, folder: Path = RESULTS) -> list[Run]:
    """Return a method's runs in the repository's results."""
    path = folder / f"{suite}.jsonl.xz"
    if not path.exists():
        return []
    with lzma.open(path, "rt") as lines:
        return [run for run in _parse(lines) if run.method == method]


def store(suite: str, methods: Iterable[str], folder: Path = OUT, results: Path = RESULTS) -> int:
    """Write all runs of a suite into the results, measurements in progress replacing older runs.

    Returns:
        Number of runs in the results.
    """
    kept = [
        run
        for method in methods
        for run in in_progress(folder, suite, method) or stored(suite, method, results)
    ]
    kept.sort(key=lambda run: (run.method, run.table, run.seed))
    if kept:
        results.mkdir(parents=True, exist_ok=True)
        with lzma.open(results / f"{suite}.jsonl.xz", "wt", preset=9) as file:
            file.writelines(json.dumps(run.to_dict()) + "\n" for run in kept)
    return len(kept)


def _parse(lines: Iterable[str]) -> list[Run]:
    return [Run.from_dict(json.loads(line)) for line in lines if line.strip()]
