"""The control of all: stock OptunaSearch with Tuner.restore, wired by hand, under the same kills.

Set up as both documentations advise: a study in SQLite, a checkpoint each epoch, three failures a
trial, restored with whatever errored. What comes of it is judged by questions that ours answers
too: is every trial there once and over, is its value the one that was measured, was no epoch
trained again but those under way. None of the product's code takes part.
"""

import json
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import drivers
from drivers import World, note

TRIALS, EPOCHS = 12, 9
EPOCH_S = 0.2
DIVERGES = 0.5
"""Rate of the one trial that measures NaN."""
TIMEOUT_S = 900.0
_STUDY = "stock"


def train(config: dict[str, Any]) -> None:
    """Train the same curve, with checkpoints as Ray Tune documents them."""
    from ray import tune

    home, uid = Path(config["home"]), tune.get_context().get_trial_id()
    named = home / "workers" / str(os.getpid())
    named.parent.mkdir(exist_ok=True)
    named.write_text(uid)
    done, kept = 0, tune.get_checkpoint()
    if kept is not None:
        with kept.as_directory() as folder:
            done = int(Path(folder, "epoch").read_text())
    for epoch in range(done + 1, EPOCHS + 1):
        note(home / "trained.txt", f"{uid} {epoch}")
        time.sleep(EPOCH_S)
        value = float("nan") if config["rate"] == DIVERGES else config["rate"] * epoch / EPOCHS
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "epoch").write_text(str(epoch))
            checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({"val_accuracy": value, "epoch": epoch}, checkpoint=checkpoint)
    named.write_text("")


def search(world: World, address: str) -> None:
    """Run the study to its end, restored if possible."""
    import ray
    from ray import tune

    ray.init(address=address, log_to_driver=False)
    path = str(world.home / "tune" / _STUDY)
    if tune.Tuner.can_restore(path):
        note(world.home / "restored.txt", "restored")
        tuner = tune.Tuner.restore(path, train, resume_errored=True)
    else:
        tuner = _begun(world.home)
    results = tuner.fit()
    values = [result.metrics.get("val_accuracy") for result in results if result.metrics]
    (world.home / "results.json").write_text(json.dumps(values))


def _begun(home: Path) -> Any:
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    searcher = OptunaSearch(
        metric="val_accuracy",
        mode="max",
        points_to_evaluate=[{"rate": 0.1}, {"rate": DIVERGES}],
        storage=optuna.storages.RDBStorage(f"sqlite:///{home / 'optuna.db'}"),
        study_name=_STUDY,
        seed=1,
    )
    return tune.Tuner(
        train,
        param_space={"rate": tune.uniform(0.0, 1.0), "home": str(home)},
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=TRIALS, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(
            name=_STUDY,
            storage_path=str(home / "tune"),
            failure_config=tune.FailureConfig(max_failures=3),
            verbose=0,
        ),
    )


def play(world: World, address: str, chance: random.Random) -> dict[str, Any]:
    """Run three drivers; kill a worker in each, and the first two at a random moment."""
    kills: Counter[str] = Counter()
    found: list[str] = []
    at_stake = 0
    for life in range(3):
        pid = drivers.forked(world, partial(search, address=address), None, _log(world))
        if _advance(world, pid, chance.randint(4, 12)) and _kill_a_worker(world, chance):
            kills["worker"] += 1
            at_stake += 1
        if life < 2 and _advance(world, pid, chance.randint(4, 12)):
            os.kill(pid, signal.SIGKILL)
            kills["driver"] += 1
            at_stake += 2
        code = drivers.ended(pid, timeout_s=TIMEOUT_S)
        if code not in {-signal.SIGKILL, drivers.FINISHED}:
            how = "restored" if (world.home / "restored.txt").exists() else "begun"
            found.append(f"driver {life + 1}, {how}, crashed: {_last_line(_log(world))}")
        elif life == 2 and code != drivers.FINISHED:
            found.append(f"driver {life + 1} did not end within {TIMEOUT_S:.0f} s")
    return {"kills": dict(kills), "violations": found + judged(world.home, at_stake)}


def judged(home: Path, at_stake: int) -> list[str]:
    """Return violations, from Optuna's database and the workers' own notes."""
    found = []
    with closing(sqlite3.connect(home / "optuna.db")) as store:
        trials = store.execute("SELECT number, state, trial_id FROM trials").fetchall()
        values = dict(store.execute("SELECT trial_id, value FROM trial_values").fetchall())
    if len(trials) != TRIALS:
        found.append(f"{len(trials)} trials in Optuna's study, {TRIALS} were asked for")
    found += [
        f"trial {number} is left {state} for ever"
        for number, state, _ in trials
        if state in {"RUNNING", "WAITING"}
    ]
    found += [
        f"trial {number} is {state} and has no value"
        for number, state, trial in trials
        if state == "COMPLETE" and values.get(trial) is None
    ]
    done = Counter((home / "trained.txt").read_text().split("\n")[:-1])
    started = {line.split()[0] for line in done}
    if len(started) != TRIALS:
        found.append(f"{len(started)} trials were trained, {TRIALS} were asked for")
    unfinished = [uid for uid in started if f"{uid} {EPOCHS}" not in done]
    if unfinished:
        found.append(f"{len(unfinished)} trials never came to their last epoch")
    again = sum(done.values()) - len(done)
    if again > at_stake:
        found.append(f"{again} epochs were trained twice, {at_stake} were under way")
    return found


def _log(world: World) -> Path:
    return world.home / "errors.txt"


def _last_line(path: Path) -> str:
    lines = path.read_text().strip().splitlines() if path.exists() else []
    return lines[-1][:200] if lines else "no output"


def _num_trained(world: World) -> int:
    path = world.home / "trained.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def _advance(world: World, pid: int, num: int) -> bool:
    goal, since = _num_trained(world) + num, time.monotonic()
    while _lives(pid) and time.monotonic() - since < TIMEOUT_S:
        if _num_trained(world) >= goal:
            return True
        time.sleep(0.02)
    return False


def _kill_a_worker(world: World, chance: random.Random) -> bool:
    pids = [int(path.name) for path in (world.home / "workers").glob("*") if path.read_text()]
    chance.shuffle(pids)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def _lives(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
