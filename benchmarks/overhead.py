"""What a trial costs beyond its training: surrogate trials on Ray Tune with MLflow on.

    .venv/bin/python benchmarks/overhead.py [--pairs 3] [--space tiny]

Runs `archscout search surrogate` with 20 and with 220 trials of 10 reports, in alternation and
each in a fresh home, and divides the difference in wall time by 200: start and end cancel out.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEW, MANY = 20, 220


def search_s(trials: int, space: str) -> float:
    """Wall time in seconds of one whole command, MLflow's projection drained."""
    program = Path(sys.executable).with_name("archscout")
    with tempfile.TemporaryDirectory() as home:
        command = [program, "--home", home, "--quiet", "search", "surrogate"]
        command += ["--trials", str(trials), "--set", f"space={space}"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


def main() -> None:
    """Prints each pair and the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--space", default="tiny")
    options = parser.parse_args()
    costs = []
    for _ in range(options.pairs):
        few, many = search_s(FEW, options.space), search_s(MANY, options.space)
        costs.append((many - few) / (MANY - FEW))
        print(f"{FEW} trials {few:.1f} s, {MANY} trials {many:.1f} s: {costs[-1]:.3f} s a trial")
    print(f"median {statistics.median(costs):.3f} s a trial, {options.space}")


if __name__ == "__main__":
    main()
