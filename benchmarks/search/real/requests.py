"""Requests to `process.py` in any checkout, and files of JSON lines that keep the answers."""

import json
import lzma
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("process.py")


def answers(checkout: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the answers to a request, trained by the code of a checkout on one thread.

    Raises:
        RuntimeError: The process failed; its traceback is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request))
        # -P: the folder of the program is not searched for modules.
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        )
        try:
            for line in process.stdout or ():
                yield json.loads(line)
            if process.wait():
                raise RuntimeError(f"{PROGRAM.name} failed in {checkout}")
        finally:
            process.kill()
            process.wait()


def revision(checkout: Path) -> str:
    """Return the short commit of a checkout; empty outside git."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


class JsonLines:
    """Rows by key, appended one by one; each shard writes a file of its own."""

    def __init__(
        self,
        folder: Path,
        name: str,
        key: tuple[str, ...],
        shard: str = "",
        stored: Path | None = None,
    ) -> None:
        """Read the stored rows, then those of all shards; later rows replace earlier ones.

        Args:
            folder: Folder of the files.
            name: Name of the files, before the shard.
            key: Columns that identify a row.
            shard: Shard that is written.
            stored: Folder of the repository's results; None without any.
        """
        self._path = folder / f"{name}{shard and '-'}{shard.replace('/', '-of-')}.jsonl"
        self._stored = None if stored is None else stored / f"{name}.jsonl.xz"
        self._key = key
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        if self._stored is not None and self._stored.exists():
            with lzma.open(self._stored, "rt") as lines:
                self._read(lines)
        for path in sorted(folder.glob(f"{name}*.jsonl")):
            self._read(path.read_text().splitlines())

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut off while it was written
            self.rows[self.key(row)] = row

    def store(self) -> None:
        """Write all rows into the repository's results."""
        if self._stored is not None and self.rows:
            self._stored.parent.mkdir(parents=True, exist_ok=True)
            with lzma.open(self._stored, "wt", preset=9) as file:
                file.writelines(json.dumps(row) + "\n" for _, row in sorted(self.rows.items()))

    def key(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the key of a row."""
        return tuple(row[column] for column in self._key)

    def append(self, row: dict[str, Any]) -> None:
        """Keep a row, on the disk as well."""
        self.rows[self.key(row)] = row
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def keep_search(
    kept: JsonLines,
    row: Mapping[str, Any],
    request: Mapping[str, Any],
    checkout: Path = ROOT,
    *,
    renew: bool = False,
) -> None:
    """Run a search and keep its trials, unless it is kept.

    Args:
        kept: Kept searches.
        row: Columns that identify the search; `seed` is its seed.
        request: Data, space, budget and method of the search.
        checkout: Checkout whose code runs it.
        renew: Replace a search of another revision.
    """
    known = kept.rows.get(kept.key(row))
    if known and not (renew and known["revision"] != revision(checkout)):
        return
    for answer in answers(checkout, {"kind": "search", "seed": row["seed"], **request}):
        kept.append({**row, "revision": revision(checkout), **answer})
        print(*row.values(), f"{answer['used']} epochs, {answer['cpu_s']} s", flush=True)


def keep_trainings(
    kept: JsonLines,
    row: Mapping[str, Any],
    request: Mapping[str, Any],
    runs: Sequence[tuple[Any, int]],
    checkout: Path = ROOT,
) -> None:
    """Train candidates with seeds, and keep their scores.

    Args:
        kept: Kept trainings.
        row: Columns that identify a training, without those of the answer.
        request: Data, space and epochs of the trainings.
        runs: Candidates, None for the default, and seeds.
        checkout: Checkout whose code trains.
    """
    plain = [{"candidate": candidate, "seed": seed} for candidate, seed in runs]
    for answer in answers(checkout, {"kind": "train", "runs": plain, **request}) if runs else ():
        kept.append({**row, **answer})
