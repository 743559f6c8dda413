"""What a worker on Ray trains in the chaos rounds: epochs that are noted, kept, and gone on from.

Named by path in the studies' configs, as a user's own training is. A file `strike` in the study's
home that names a moment kills the first worker that comes to it, unless its trial is named there.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.studies import quality

EPOCH_S = "CHAOS_EPOCH_S"
"""The variable that says how long an epoch takes, 0.2 s by default: long enough to be met in it."""


def train(decisions: Mapping[str, Any], context: Any) -> Iterator[dict[str, float]]:
    """Yield a curve that rises to the candidate's quality, from the last attempt on."""
    folder = Path(context.checkpoint_dir)
    folder.mkdir(parents=True, exist_ok=True)
    home, uid = folder.parents[2], folder.name
    kept, epoch_s = folder / "kept", float(os.environ.get(EPOCH_S, "0.2"))
    done = int(kept.read_text()) if kept.exists() else 0
    with _named(home / "workers" / str(os.getpid()), uid):
        top = quality(dict(decisions))
        for epoch in range(1, context.epochs + 1):
            if epoch > done:
                _note(home / "trained.txt", f"{uid} {epoch}")
                time.sleep(epoch_s)
                _strike(home, "training", uid)
                kept.with_suffix(".new").write_text(str(epoch))
                kept.with_suffix(".new").replace(kept)
                _strike(home, "kept", uid)
            value = top * epoch / context.epochs
            yield {
                "val_accuracy": value,
                "val_loss": 1 - value,
                "seed": float(context.seed),
            }


class _named:  # noqa: N801 - reads as a function
    """Record which process trains which trial, while it does."""

    def __init__(self, path: Path, uid: str) -> None:
        self._path, self._uid = path, uid

    def __enter__(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(self._uid)

    def __exit__(self, *_: object) -> None:
        self._path.write_text("")


def _strike(home: Path, moment: str, uid: str) -> None:
    try:
        asked, *spared = (home / "strike").read_text().split()
        if asked != moment or uid in spared:
            return
        (home / "strike").unlink()  # of several, one succeeds
    except FileNotFoundError:
        return
    _note(home / "struck-workers.jsonl", json.dumps({"uid": uid, "at": time.time()}))
    os.kill(os.getpid(), signal.SIGKILL)


def _note(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)
