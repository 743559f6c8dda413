"""How long each thing takes to come back, against what is promised; several times each.

    PYTHONPATH=.:tests .venv/bin/python benchmarks/recovery.py [--engine in_process]

A search with epochs of half a second. A worker or the driver is killed by SIGKILL, or the
driver is interrupted; what follows is seen in the ledger by plain SQL, and in the process's end.
MLflow's recovery is in benchmarks/outage.py.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from support.checker import measured, rows

TRAIN = """
import os, time
from pathlib import Path


def space(trial):
    return {"rate": trial.suggest_float("rate", 0.0, 1.0)}


def train(decisions, context):
    Path(__file__).with_name(f"worker-{os.getpid()}").touch()
    for epoch in range(1, context.epochs + 1):
        time.sleep(EPOCH_S)
        yield {"val_accuracy": decisions["rate"]}
"""

EPOCH_S = 0.5
TIMEOUT_S = 300.0


class Search:
    """A search as its user starts it, in a folder of its own."""

    def __init__(self, folder: Path, engine: str) -> None:
        (folder / "mine.py").write_text(TRAIN.replace("EPOCH_S", repr(EPOCH_S)))
        study = {
            "name": "back",
            "space": "mine.py:space",
            "train": "mine.py:train",
            "budget": {"minimum": 20, "maximum": 20, "reduction_factor": 3},
            "stop": {"trials": 1000},
            "sampler": {"name": "random"},
            "engine": {"name": engine},
        }
        (folder / "study.yaml").write_text(json.dumps(study))
        self._folder = folder
        self.home = folder / "home"
        self.driver = self._begin("search", str(folder / "study.yaml"))

    def resume(self) -> None:
        """Go on with it."""
        self.driver = self._begin("resume", "back")

    def close(self) -> None:
        """End it with all that it started."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.driver.pid).children(recursive=True):
                child.kill()
        self.driver.kill()
        self.driver.wait()

    def trains(self, more: int) -> None:
        """Wait until so many new epochs are recorded."""
        goal = measured(self.home) + more
        until(lambda: measured(self.home) >= goal)

    def workers(self) -> list[int]:
        """Processes that train, or have trained, and live."""
        pids = [int(path.name.split("-")[1]) for path in self._folder.glob("worker-*")]
        return [pid for pid in pids if psutil.pid_exists(pid)]

    def ask(self, question: str, *values: object) -> list[tuple[object, ...]]:
        """Plain SQL on its ledger."""
        return rows(self.home / "ledger.db", question, *values)

    def _begin(self, *words: str) -> "subprocess.Popen[bytes]":
        program = Path(sys.executable).with_name("archscout")
        return subprocess.Popen(
            [program, "--home", self.home, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("it did not happen in time")
        time.sleep(0.02)


def worker(search: Search) -> float:
    """A worker is killed: until the trial that it trained is measured again."""
    search.trains(4)
    victim = search.workers()[0]
    began, before = time.time(), time.monotonic()
    os.kill(victim, signal.SIGKILL)
    again = (
        "SELECT count(*) FROM measurement JOIN attempt ON attempt.trial_uid = measurement.trial_uid"
        " AND attempt.number = measurement.attempt WHERE attempt.number > 1"
        " AND attempt.started > ?"
    )
    until(lambda: search.ask(again, began)[0][0] != 0)
    return time.monotonic() - before


def driver(search: Search) -> float:
    """The driver is killed and resumed: until an epoch is recorded again."""
    search.trains(4)
    before = time.monotonic()
    search.driver.kill()
    search.driver.wait()
    search.resume()
    search.trains(1)
    return time.monotonic() - before


def interrupt(search: Search) -> float:
    """Ctrl-C in the middle of epochs: until the process has ended."""
    search.trains(4)
    before = time.monotonic()
    search.driver.send_signal(signal.SIGINT)
    search.driver.wait()
    return time.monotonic() - before


def interrupt_again(search: Search) -> float:
    """A second Ctrl-C a moment after the first: until the process has ended."""
    search.trains(4)
    search.driver.send_signal(signal.SIGINT)
    time.sleep(0.3)
    before = time.monotonic()
    search.driver.send_signal(signal.SIGINT)
    search.driver.wait()
    return time.monotonic() - before


MEASURED: dict[str, tuple[Callable[[Search], float], float]] = {
    "worker": (worker, 15.0),
    "driver": (driver, 60.0),
    "interrupt": (interrupt, 20.0),
    "interrupt_again": (interrupt_again, 2.0),
}
"""What is measured, and within how many seconds it is promised."""


def main() -> None:
    """Prints one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", choices=MEASURED, action="append")
    parser.add_argument("--engine", choices=["ray_tune", "in_process"], default="ray_tune")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    for name in options.only or MEASURED:
        if name == "worker" and options.engine == "in_process":
            continue  # there is none
        measure, promised_s = MEASURED[name]
        taken = []
        for _ in range(options.times):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                search = Search(Path(folder), options.engine)
                try:
                    taken.append(measure(search))
                finally:
                    search.close()
        times = ", ".join(f"{seconds:.1f}" for seconds in sorted(taken))
        print(
            f"{name}: {times} s; median {statistics.median(taken):.1f} s, "
            f"promised {promised_s:g} s: {sum(s <= promised_s for s in taken)} of {len(taken)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
