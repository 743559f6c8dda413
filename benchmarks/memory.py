"""What a long search costs its driver: memory, open files and threads over many short trials.

    .venv/bin/python benchmarks/memory.py [--trials 1000] [--engine in_process] [--engine ray_tune]

Runs `archscout search surrogate`, looks at the driver from outside ten times a second,
and fits a line through its resident memory by the trials that the ledger has ended. The first fifth
is left out: imports, pools and caches fill there.
"""

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

WARM = 5
"""One part in this many of the trials is left out at the start."""
PROMISED_KB = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The driver at one moment."""

    trials: int
    """Trials that had ended."""
    rss_kb: float
    files: int
    threads: int


def looks(driver: "subprocess.Popen[bytes]", ledger: Path) -> Iterator[Look]:
    """The driver, again and again, while it lives."""
    process = psutil.Process(driver.pid)
    while driver.poll() is None:
        try:
            yield Look(
                trials=ended(ledger),
                rss_kb=process.memory_info().rss / 1024,
                files=process.num_fds(),
                threads=process.num_threads(),
            )
        except psutil.Error:
            return
        time.sleep(0.1)


def ended(ledger: Path) -> int:
    """Trials that have ended, by plain SQL."""
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=5)) as opened:
            return int(opened.execute("SELECT count(*) FROM trial WHERE ended > 0").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def measure(engine: str, sampler: str, trials: int) -> None:
    """One search, and what it cost."""
    program = Path(sys.executable).with_name("archscout")
    with tempfile.TemporaryDirectory() as home:
        command = [program, "--home", home, "--quiet", "search", "surrogate", "--engine", engine]
        command += ["--trials", str(trials), "--set", f"sampler.name={sampler}"]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
            seen = [look for look in looks(driver, Path(home) / "ledger.db") if look.trials]
        took = time.perf_counter() - began
        if driver.returncode != 0:
            sys.exit(f"the search ended with {driver.returncode}")
        reopened = time.perf_counter()
        subprocess.run(
            [program, "--home", home, "--quiet", "status", "surrogate"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        reopened = time.perf_counter() - reopened
        size = (Path(home) / "ledger.db").stat().st_size / 1e6
    warm = [look for look in seen if trials // WARM <= look.trials < trials]
    growth, _ = statistics.linear_regression(
        [look.trials for look in warm], [look.rss_kb for look in warm]
    )
    verdict = "as promised" if growth < PROMISED_KB else "MORE THAN PROMISED"
    print(
        f"{engine}, {sampler}, {trials} trials in {took:.0f} s: "
        f"{growth:.1f} KB a trial ({verdict}), "
        f"from {warm[0].rss_kb / 1024:.0f} to {warm[-1].rss_kb / 1024:.0f} MB; "
        f"files {warm[0].files} to {warm[-1].files} (most {max(x.files for x in warm)}), "
        f"threads {warm[0].threads} to {warm[-1].threads} (most {max(x.threads for x in warm)}); "
        f"ledger {size:.1f} MB, `status` answers in {reopened:.1f} s",
        flush=True,
    )


def main() -> None:
    """Prints one line a search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--engine", action="append")
    parser.add_argument("--sampler", default="tpe")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    for engine in options.engine or ["in_process", "ray_tune"]:
        measure(engine, options.sampler, options.trials)


if __name__ == "__main__":
    main()
