"""MLflow away for a minute in mid-run: what it costs training, and what MLflow shows afterwards.

    PYTHONPATH=.:tests .venv/bin/python benchmarks/outage.py [--down 60] [--engine in_process]

A search logs to a real `mlflow server` on loopback: two trials at once on Ray Tune, or one in
process, epochs of a fixed length. In mid-run the server is killed by SIGKILL, its whole process
group or its main process alone, and started again after a while. For comparison: the same search
undisturbed, and a training loop wired by hand (`mlflow.log_metric` after each epoch) whose server
is killed as well. What MLflow shows is judged by plain REST and plain SQL, without code of ours.
"""

import argparse
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.checker import measured, of_mlflow_over_rest, recorded, rows, shown_over_rest

TRAIN = """
import time


def space(trial):
    return {"rate": trial.suggest_float("rate", 0.0, 1.0)}


def train(decisions, context):
    for epoch in range(1, context.epochs + 1):
        time.sleep(EPOCH_S)
        yield {"val_accuracy": decisions["rate"] * epoch / context.epochs}
"""

BY_HAND = """
import sys, time
import mlflow

mlflow.set_experiment("by hand")
with mlflow.start_run() as run:
    print(run.info.run_id, flush=True)
    for epoch in range(EPOCHS):
        time.sleep(EPOCH_S)
        try:
            mlflow.log_metric("val_accuracy", epoch / EPOCHS, step=epoch)
        except Exception as error:
            print(f"epoch {epoch}: {type(error).__name__}", file=sys.stderr, flush=True)
"""

EPOCHS = 10
SLOTS = 2
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PROMISED_S = 60.0
"""How long after it serves again MLflow may lack something."""


class Server:
    """MLflow's own server, killed and started again on one port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-P", "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, **quiet, "PYTHONWARNINGS": "ignore"},
                start_new_session=True,
            )
        while True:
            with suppress(OSError), _DIRECT.open(f"{self.url}/health", timeout=2):
                return
            time.sleep(0.2)

    def kill(self, *, group: bool) -> None:
        """Kill its whole process group, or its main process alone."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def away(self, seconds: float, *, group: bool) -> None:
        """Kill it, and start it again after a while."""
        self.kill(group=group)
        time.sleep(seconds)
        self.kill(group=True)  # workers that outlived a killed main process hold the port
        self.start()


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server with a store of its own."""
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill(group=True)


def search(
    folder: Path, server: Server, options: argparse.Namespace, trials: int
) -> "subprocess.Popen[bytes]":
    """A search as its user starts it, logging to the server."""
    (folder / "mine.py").write_text(TRAIN.replace("EPOCH_S", repr(options.epoch)))
    study = {
        "name": "outage",
        "space": "mine.py:space",
        "train": "mine.py:train",
        "budget": {"minimum": EPOCHS, "maximum": EPOCHS, "reduction_factor": 3},
        "stop": {"trials": trials},
        "sampler": {"name": "random"},
        "engine": {"name": options.engine},
    }
    (folder / "study.yaml").write_text(json.dumps(study))
    program = Path(sys.executable).with_name("archscout")
    with (folder / "search.log").open("wb") as log:
        return subprocess.Popen(
            [program, "--home", folder / "home", "search", folder / "study.yaml"],
            stdout=log,
            stderr=log,
            env={**os.environ, "MLFLOW_TRACKING_URI": server.url},
        )


def caught_up_s(server: Server, ledger: Path) -> float:
    """Seconds until the server shows, each once, all that the ledger has now."""
    began, wanted = time.monotonic(), recorded(ledger, "outage")
    while time.monotonic() - began < 2 * PROMISED_S:
        with suppress(OSError, KeyError):
            shown = shown_over_rest(server.url, "outage")
            if all(shown[point] == 1 for point in wanted):
                return time.monotonic() - began
        time.sleep(0.5)
    return float("inf")


def epochs_s(ledger: Path) -> list[float]:
    """How long each epoch took its worker, from one report to the next; first ones are left out."""
    asked = "SELECT trial_uid, elapsed_s FROM measurement ORDER BY trial_uid, epoch"
    reports = rows(ledger, asked)
    return [
        later[1] - earlier[1]
        for earlier, later in itertools.pairwise(reports)
        if earlier[0] == later[0]
    ]


def searched(kind: str, options: argparse.Namespace) -> float:
    """One search, and the mean time of its epochs."""
    with tempfile.TemporaryDirectory() as scratch, served(Path(scratch)) as server:
        folder, home = Path(scratch), Path(scratch) / "home"
        # Long enough to see the outage from its beginning to what follows it.
        lasting_s = options.down + 40 if kind else 20
        slots = SLOTS if options.engine == "ray_tune" else 1
        trials = int(lasting_s / (EPOCHS * options.epoch) * slots)
        driver = search(folder, server, options, trials)
        back = ""
        if kind:
            while measured(home) < EPOCHS:
                time.sleep(0.05)
            before = measured(home)
            server.away(options.down, group=kind == "whole group")
            went_on = measured(home) - before
            back = f"; {went_on} epochs meanwhile, all shown "
            back += f"{caught_up_s(server, home / 'ledger.db'):.1f} s after serving again"
        code = driver.wait()
        wrong = of_mlflow_over_rest(server.url, home / "ledger.db", "outage")
        if code != 0:
            sys.exit(f"the search ended with {code}: {(folder / 'search.log').read_text()[-2000:]}")
        taken = epochs_s(home / "ledger.db")
        points = len(recorded(home / "ledger.db", "outage"))
    print(
        f"{options.engine}, {kind or 'undisturbed'}: exit {code}, {trials} trials, "
        f"{points} metrics, {len(wrong)} missing, doubled or wrong{back}; "
        f"epochs: mean {statistics.mean(taken):.3f} s, longest {max(taken):.2f} s",
        flush=True,
    )
    for line in wrong[:5]:
        print("   ", line)
    return statistics.mean(taken)


def by_hand(options: argparse.Namespace) -> None:
    """The same outage under a loop that logs by itself."""
    with tempfile.TemporaryDirectory() as scratch, served(Path(scratch)) as server:
        epochs = int(20 / options.epoch)
        text = BY_HAND.replace("EPOCH_S", repr(options.epoch)).replace("EPOCHS", repr(epochs))
        loop = subprocess.Popen(
            [sys.executable, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MLFLOW_TRACKING_URI": server.url},
        )
        assert loop.stdout is not None
        run_id = loop.stdout.readline().decode().strip()
        began = time.monotonic()
        time.sleep(5)
        server.away(options.down, group=True)
        loop.wait()
        took = time.monotonic() - began
        asked = "SELECT count(DISTINCT step) FROM metrics WHERE run_uuid = ?"
        kept = rows(Path(scratch) / "mlflow.db", asked, run_id)[0][0]
    print(
        f"by hand, whole group: {epochs} epochs of {options.epoch:g} s took {took:.0f} s, "
        f"{took - epochs * options.epoch:.0f} s of them lost; {epochs - kept} metrics missing",
        flush=True,
    )


def main() -> None:
    """Prints one line a run, and what the outage cost an epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--down", type=float, default=60.0, help="seconds of outage")
    parser.add_argument("--epoch", type=float, default=0.5, help="seconds of an epoch")
    parser.add_argument("--engine", choices=["ray_tune", "in_process"], default="ray_tune")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    calm = searched("", options)
    for kind in ("whole group", "main process"):
        mean = searched(kind, options)
        print(f"{kind}: an epoch took {mean / calm - 1:+.1%} against the undisturbed search")
    by_hand(options)


if __name__ == "__main__":
    main()
