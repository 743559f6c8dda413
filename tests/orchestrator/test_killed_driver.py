"""A driver that is killed at any moment, and the study that its successors finish.

On Ray the chaos rounds do it (tests/chaos), on a cluster that is there already.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.checker import measured, rows, violations

KILLS = int(os.environ.get("ARCHSCOUT_KILLS", "2"))
"""How many drivers die; each costs a start of all engines, hence few by default."""
EPOCHS = 10
TIMEOUT_S = 240.0


def archscout(home: Path, *words: str) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name("archscout")
    command = [str(program), "--home", str(home), *words]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def killed_after(driver: subprocess.Popen[bytes], home: Path, num: int) -> bool:
    """Kills the driver once that many new measurements are kept; False if it was done before."""
    goal = measured(home) + num
    deadline = time.monotonic() + TIMEOUT_S
    while measured(home) < goal and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    was_running = driver.poll() is None
    driver.kill()
    driver.communicate()
    return was_running


def left_over(home: Path) -> list[str]:
    """Command lines of processes that name this home, after a moment to leave."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [
            " ".join(process.info["cmdline"])
            for process in psutil.process_iter(["cmdline"])
            if str(home) in " ".join(process.info["cmdline"] or ())
        ]
        if not found:
            return []
        time.sleep(0.2)
    return found


@pytest.mark.slow
@pytest.mark.mlflow
def test_killed_drivers_lose_and_repeat_nothing(tmp_path: Path) -> None:
    home, chance, trials = tmp_path / "home", random.Random("in_process"), 80
    search = ("search", "surrogate", "--engine", "in_process", "--trials", str(trials))
    words: tuple[str, ...] = (*search, "--set", "sampler.name=random")
    kills = 0
    while kills < KILLS:
        assert killed_after(archscout(home, *words), home, chance.randint(10, 60)), "ended early"
        kills += 1
        words = ("resume", "surrogate")
    last = archscout(home, *words)
    complaint = last.communicate(timeout=TIMEOUT_S)[1].decode()
    assert last.returncode == 0, complaint
    assert violations(home, "surrogate", trials=trials, epochs=EPOCHS) == []
    lost = rows(home / "ledger.db", "SELECT count(*) FROM attempt WHERE outcome = 'lost'")[0][0]
    assert lost >= 1, "no kill met a running trial: the test shows nothing"
    assert left_over(home) == []


def test_the_checker_sees_what_is_wrong(tmp_path: Path) -> None:
    """The control: a study broken on purpose must not pass."""
    home = tmp_path / "home"
    driver = archscout(home, "search", "surrogate", "--engine", "in_process", "--trials", "200")
    assert killed_after(driver, home, 30)
    assert driver.returncode == -signal.SIGKILL
    assert left_over(home) == []
    found = violations(home, "surrogate", trials=200, epochs=EPOCHS)
    assert any("RUNNING" in line for line in found)
    assert any("trials were started" in line for line in found)
