"""Nodes lost and joined in mid-run on three Ray nodes on loopback, with the real trainer.

    .venv/bin/python benchmarks/nodes.py [--rounds 3] [--event node|raylet|frozen|joined]

Each round searches on a cluster of its own. `node` kills a raylet and its workers, as a machine
that goes down; `raylet` kills the raylet alone; `frozen` stops all of them, as a network that is
cut, and lets them go on once their trial runs elsewhere: two trials then run on three nodes, so
that one has room. `joined` adds a node to a search that fills the three. `--fast-checks` starts
the head with the settings that README advises. Prints a JSON line a round.
"""

import os
import secrets
import tempfile

# Before ray is imported: nodes listen on loopback, to holders of a token alone, and their workers
# are not starved.
os.environ.update({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"})
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})

import argparse
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from orchestrator.config.schema import StudyConfig
from orchestrator.engines.ray_tune import RayTuneEngine
from orchestrator.ledger import Holder, Ledger
from orchestrator.study.driver import StudyDriver
from search_spaces.catalog import load as load_space
from workers.data import load
from workers.storage import LocalFolder

FAST = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
CONFIG: dict[str, Any] = {
    "name": "nodes",
    "space": "tiny",
    "data": {"source": "digits"},
    "budget": {"minimum": 40, "maximum": 40, "reduction_factor": 3},
    "pruner": {"name": "none"},
    "sampler": {"name": "random"},
    "stop": {"trials": 8},
    "seed": 3,
}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--event", choices=["node", "raylet", "frozen", "joined"], default="node")
    given.add_argument("--fast-checks", action="store_true")
    given.add_argument("--epochs", type=int, default=40, help="of a trial; fewer on a slow machine")
    options = given.parse_args()
    CONFIG["stop"]["trials"] = 8 if options.event == "joined" else 2
    CONFIG["budget"]["minimum"] = CONFIG["budget"]["maximum"] = options.epochs
    if options.fast_checks:
        os.environ.update(FAST)
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder, cluster() as nodes:
            seen = round_of(options.event, nodes, Path(folder))
        load = round(os.getloadavg()[0], 1)
        print(json.dumps({"event": options.event, **seen, "load_average": load}), flush=True)


@contextmanager
def cluster() -> Iterator[Any]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    try:
        yield made
    finally:
        made.shutdown()


def round_of(event: str, nodes: Any, folder: Path) -> dict[str, Any]:
    config = StudyConfig.model_validate(CONFIG)
    dataset = load(config.data)
    with Ledger.open(folder / "ledger.db") as ledger:
        record, lease = ledger.open_study(
            name=config.name,
            config_json=config.canonical_json(),
            space_name="tiny",
            space_version="1",
            data_digest=dataset.digest,
            holder=Holder.of_this_process(),
        )
        parts: dict[str, Any] = {
            "record": record,
            "config": config,
            "ledger": ledger,
            "lease": lease,
            "space": load_space("tiny"),
            "task": dataset.task,
            "checkpoints_dir": LocalFolder(folder / "checkpoints"),
            "logs_dir": folder / "logs",
        }
        engine = RayTuneEngine(nodes.address, checkpoints=LocalFolder(folder / "checkpoints"))
        with closing(engine), StudyDriver(**parts) as study:
            running = threading.Thread(target=engine.run, args=(study, dataset))
            began = time.monotonic()
            running.start()
            logs = folder / "logs" / config.name
            wait(lambda: study.snapshot().epochs > 0)
            seen = {"first_epoch_s": round(time.monotonic() - began, 1)}
            seen |= (
                join(nodes, study, logs) if event == "joined" else lose(event, nodes, study, logs)
            )
            running.join()
            return {**seen, **judged(study, logs)}


def lose(event: str, nodes: Any, study: StudyDriver, logs: Path) -> dict[str, Any]:
    """Loses a node that trains, and waits until its trial is trained on another."""
    struck: list[psutil.Process] = []

    def trains() -> bool:
        for node in nodes.list_all_nodes()[1:]:
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            workers = raylet.children(recursive=True)
            if any(reached_by(logs, process.pid) >= 3 for process in workers):
                struck[:] = [raylet, *workers]
                return True
        return False

    wait(trains)
    workers = struck[1:]
    began = time.monotonic()
    for process in struck[:1] if event == "raylet" else struck:
        process.suspend() if event == "frozen" else process.kill()
    wait(lambda: any(trial.attempts > 1 for trial in study.trials))
    noticed = time.monotonic() - began
    [lost] = [trial.number for trial in study.trials if trial.attempts > 1]
    wait(lambda: "epoch " in (logs / f"{lost}.log").read_text().partition("attempt 2 of trial")[2])
    recovered = time.monotonic() - began
    for process in struck if event == "frozen" else []:
        process.resume()
    began = time.monotonic()
    wait(lambda: not any(map(alive, workers)))
    return {
        "noticed_s": round(noticed, 1),
        "recovered_s": round(recovered, 1),
        "orphans_gone_after_s": round(time.monotonic() - began, 1),
    }


def join(nodes: Any, study: StudyDriver, logs: Path) -> dict[str, Any]:
    """Adds a node to a search that fills those there are, and waits until it trains."""
    wait(lambda: len(study.snapshot().running) == 3)
    node = nodes.add_node(num_cpus=1)
    began = time.monotonic()
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    wait(lambda: len(study.snapshot().running) == 4)
    given = time.monotonic() - began
    wait(lambda: any(reached_by(logs, process.pid) for process in raylet.children()))
    return {
        "given_a_trial_s": round(given, 1),
        "trained_an_epoch_s": round(time.monotonic() - began, 1),
    }


def judged(study: Any, logs: Path) -> dict[str, Any]:
    """What the round cost, from the trials' logs: epochs trained beyond one each."""
    redone = {}
    for trial in study.trials:
        text = (logs / f"{trial.number}.log").read_text()
        epochs = Counter(re.findall(r"^.*epoch (\d+) of", text, re.MULTILINE))
        if trial.attempts > 1:
            redone[trial.number] = sum(epochs.values()) - len(epochs)
    measured = [[seen.fidelity for seen in trial.measurements] for trial in study.trials]
    whole = [epochs == list(range(1, CONFIG["budget"]["maximum"] + 1)) for epochs in measured]
    return {
        "lost_trials": len(redone),
        "epochs_measured_again": redone,
        "complete": sum(trial.state == "COMPLETE" for trial in study.trials),
        "every_epoch_once": all(whole),
    }


def reached_by(logs: Path, pid: int) -> int:
    """Return the last epoch that a process reported in the newest attempt of any log."""
    reached = 0
    for log in logs.glob("*.log"):
        last = log.read_text().rpartition(" begins: ")[2]
        if f"process {pid} on" in last:
            reached = max([reached, *map(int, re.findall(r"epoch (\d+) of", last))])
    return reached


def alive(process: Any) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 900
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("nothing came of it within fifteen minutes")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
