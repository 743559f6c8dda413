"""The command on a Ray of its own, training real networks, while parts of it are killed.

What a round on a shared cluster cannot do: Ray's head and the driver's own node die too, the driver
must then end with status 4, and of each driver nothing may be left after a moment. The finished
study must equal, metric by metric, the one that the in-process engine makes undisturbed: weights
come back from checkpoints or they differ.
"""

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from drivers import World
from ray_rounds import TIMEOUT_S, RayRound
from support import checker

from orchestrator.ledger import Ledger

TRIALS, EPOCHS = 4, 8
WORKER = "ray::ResourceTrainable"
"""Name that Tune 2.60 gives to our worker processes."""
PARTS = (WORKER, "gcs_server", "raylet", "driver")
"""Killed in this order: a worker, Ray's head, the driver's own node, the driver."""
_MARK = "CHAOS_MARK"
_INTERRUPTED = 4
_SEARCH = (
    "search tiny --engine {engine} --trials {trials} --set sampler.name=random"
    " --set pruner.name=none --set budget.minimum={epochs} --set budget.maximum={epochs}"
)


def play(this: RayRound, world: World, chance: random.Random) -> None:
    """Run a round and record its results."""
    calm = world.home / "reference"
    calm.mkdir()
    assert _archscout(calm, "", "", *_search(world, "in_process")).wait() == 0
    with Ledger.open(world.url):
        pass  # makes its tables, which are looked into below
    words = _search(world, "ray_tune")
    for part in PARTS:
        _until_killed(this, world, words, part, chance.randint(2, 5))
        words = ["resume", world.name]
    if _archscout(world.home, world.url, "", *words).wait() != 0:
        this.violations.append(f"the last resume failed; see {world.home / 'errors.txt'}")
    this.violations += _judged(world, calm)


def _search(world: World, engine: str) -> list[str]:
    words = _SEARCH.format(engine=engine, trials=TRIALS, epochs=EPOCHS).split()
    return [*words, "--name", world.name]


def _judged(world: World, calm: Path) -> list[str]:
    found = checker.of_ledger(world.ledger, world.name, TRIALS, EPOCHS)
    if checker.story(world.ledger, world.name) != checker.story(calm / "ledger.db", world.name):
        found.append("the study is not the one that an uninterrupted search gives")
    return [*found, *checker.of_mlflow(world.home / "mlflow.db", world.ledger, world.name)]


def _until_killed(this: RayRound, world: World, words: list[str], part: str, after: int) -> None:
    """Run one driver, and kill a part of it after some measurements."""
    mark = secrets.token_hex(8)
    driver = _archscout(world.home, world.url, mark, *words)
    if not _measures(driver, world, after):
        this.kills["missed"] += 1
    victims = _parts(driver.pid, part)
    for victim in victims[:1]:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            this.kills["worker" if part == WORKER else f"{part} of its own cluster"] += 1
    killed = time.monotonic()
    if part == WORKER:
        if not _measures(driver, world, 4):
            this.violations.append("the search did not go on after a worker was killed")
        driver.send_signal(signal.SIGTERM)
        killed = time.monotonic()
    code = _code(driver)
    if part != "driver":
        this.took(
            "driver ended on SIGTERM" if part == WORKER else f"driver ended without {part}",
            time.monotonic() - killed,
        )
        if code != _INTERRUPTED:
            this.violations.append(f"after the kill of {part} the driver ended with {code}")
    ended = time.monotonic()
    while (left := _marked(mark)) and time.monotonic() - ended < TIMEOUT_S:
        time.sleep(0.2)
    this.took("nothing left of a driver", time.monotonic() - ended)
    if left:
        this.violations.append(f"{part} killed: left after {TIMEOUT_S:.0f} s: {left}")
        _end(mark)


def _archscout(home: Path, url: str, mark: str, *words: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, _MARK: mark}
    # The command makes its own; those of a cluster that rounds share are not for it.
    for name in ("ARCHSCOUT_LEDGER", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    if url:
        environment["ARCHSCOUT_LEDGER"] = url
    code = "import sys; from orchestrator.cli import main; sys.exit(main())"
    with (home / "errors.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, "--home", str(home), "--quiet", *words],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _measures(
    driver: "subprocess.Popen[bytes]", world: World, num: int, limit_s: float = TIMEOUT_S
) -> bool:
    """Wait for further measurements; return False if there are none in time."""
    goal = checker.num_measured(world.ledger, world.name) + num
    since = time.monotonic()
    while driver.poll() is None and time.monotonic() - since < limit_s:
        if checker.num_measured(world.ledger, world.name) >= goal:
            return True
        time.sleep(0.02)
    return False


def _code(driver: "subprocess.Popen[bytes]") -> int:
    try:
        return driver.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        driver.kill()
        return driver.wait()


def _parts(pid: int, part: str) -> list[psutil.Process]:
    """Return the driver, or its child processes of that name."""
    driver = psutil.Process(pid)
    if part == "driver":
        return [driver]
    found = []
    for process in driver.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if part in process.name() or process.name().startswith(part):
                found.append(process)
    return found


def _marked(mark: str) -> list[str]:
    """Return names of all processes whose environment has the mark."""
    return [process.name() for process in _bearing(mark)]


def _bearing(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_MARK) == mark and process.status() != "zombie":
                found.append(process)
    return found


def _end(mark: str) -> None:
    for process in _bearing(mark):
        with suppress(psutil.Error):
            process.kill()
