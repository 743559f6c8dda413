"""How long the ledger takes: one write, one fsync of this disk, and reading a large study.

python benchmarks/ledger.py [URL]        (default: SQLite in a new folder under the working one)
"""

import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from orchestrator.ledger import Holder, Lease, Ledger, transitions
from orchestrator.trial import Trial, TrialState
from workers.measurement import CheckpointRef, Measurement

_ROUNDS = 300
_TRIALS = 10_000


def _timed(times: list[float], work: Callable[[], object]) -> object:
    began = time.perf_counter()
    made = work()
    times.append((time.perf_counter() - began) * 1e3)
    return made


def _new(number: int) -> Trial:
    paths = [f"architecture.streams.image.stages.{stage}.width" for stage in range(15)]
    return Trial(
        number=number,
        uid=uuid.uuid4().hex,
        params=dict.fromkeys(paths, 0.123456789),
        distributions=dict.fromkeys(paths, '{"name": "FloatDistribution", "attributes": {}}'),
        candidate={"schema": 1, "architecture": dict.fromkeys(paths, 0.123456789)},
        digest="d" * 64,
        seed=number,
    )


def _seen(epoch: int) -> Measurement:
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    kept = CheckpointRef(path="checkpoints/x", manifest_sha256="a" * 64, bytes=1)
    return Measurement(
        fidelity=epoch, metrics=dict.fromkeys(names, 0.9), elapsed_s=1.0, checkpoint=kept
    )


def _writes(ledger: Ledger, lease: Lease) -> Iterator[tuple[str, float]]:
    times: dict[str, list[float]] = {"add_trial": [], "start": [], "record": [], "finish": []}
    for number in range(_ROUNDS):
        new = _new(number)
        _timed(times["add_trial"], lambda new=new: ledger.add_trial(lease, new))
        began = time.perf_counter()
        key = ledger.start_attempt(lease, new.uid)
        times["start"].append((time.perf_counter() - began) * 1e3)
        for epoch in (1, 2, 3):
            seen = _seen(epoch)
            _timed(times["record"], lambda key=key, seen=seen: ledger.record(lease, key, seen))
        _timed(
            times["finish"],
            lambda key=key: ledger.finish(
                lease, key.trial_uid, key=key, state=TrialState.COMPLETE, values=(0.9,)
            ),
        )
    for name, taken in times.items():
        yield name, median(taken)


def _shared(ledger: Ledger, lease: Lease) -> Iterator[tuple[int, float, float]]:
    """Records that share a commit: how many, and milliseconds of wall and processor for each.

    What group commit could gain at most, with so many writers waiting at any time.
    """
    for together in (1, 4, 16):
        number = len(ledger.trials(lease.study_id))
        new = _new(number)
        ledger.add_trial(lease, new)
        key = ledger.start_attempt(lease, new.uid)
        times, busy = [], time.process_time()
        for first in range(1, _ROUNDS, together):
            seen = [_seen(epoch) for epoch in range(first, first + together)]
            _timed(
                times,
                lambda key=key, seen=seen: ledger._database.write(  # noqa: SLF001
                    lambda tx: [transitions.record(tx, lease, key, each) for each in seen]
                ),
            )
        busy = time.process_time() - busy
        yield together, median(times) / together, busy * 1e3 / (len(times) * together)


def _fsync_ms(folder: Path) -> float:
    """One fsync of a file that grew by a page: what no acknowledged write can do without."""
    times: list[float] = []
    with (folder / "probe").open("wb") as file:
        for _ in range(_ROUNDS):
            file.write(b"x" * 4096)
            file.flush()
            _timed(times, lambda: os.fdatasync(file.fileno()))
    return median(times)


def main() -> None:
    """Print milliseconds, by operation."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else Path(folder) / "ledger.db"
        print(f"fsync of this disk   {_fsync_ms(Path(folder)):8.2f} ms")
        with Ledger.open(url) as ledger:
            study, lease = ledger.open_study(
                name=uuid.uuid4().hex, config_json="{}", holder=Holder.of_this_process()
            )
            for operation, taken in _writes(ledger, lease):
                print(f"{operation:20} {taken:8.2f} ms (median)")
            for together, taken, busy in _shared(ledger, lease):
                print(
                    f"record, {together:2} a commit  {taken:8.2f} ms each, processor {busy:.2f} ms"
                )
            for number in range(len(ledger.trials(study.id)), _TRIALS):
                new = _new(number)
                ledger.add_trial(lease, new)
                key = ledger.start_attempt(lease, new.uid)
                for epoch in (1, 2, 3):
                    ledger.record(lease, key, _seen(epoch))
            times: list[float] = []
            _timed(times, lambda: ledger.trials(study.id))
            print(f"trials() of {_TRIALS} x 3 {times[0]:8.2f} ms")


if __name__ == "__main__":
    main()
