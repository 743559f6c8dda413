"""Every way in which a trial can go wrong, through Ray: its class, its retries, its neighbors.

    PYTHONPATH=.:tests .venv/bin/python benchmarks/faults.py

One study of 14 trials is run twice on two slots, once without faults. In the second, each odd
trial goes wrong at every attempt: NaN, exception, sleep, a loop in C, segfault, `os._exit`, no
memory under an rlimit. Every other trial must have the same metrics, to the last bit.
"""

import tempfile
import time
from contextlib import closing
from pathlib import Path

from support.faulty import ENDS, wrong

from orchestrator.engines.ray_tune import RayTuneEngine


def main() -> None:
    """Prints what is not as promised, or how each fault ended."""
    faults = {2 * position + 1: fault for position, fault in enumerate(ENDS)}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        engine = RayTuneEngine(ray_options={"num_cpus": 2}, silence_s=3.0)
        with closing(engine):
            found = wrong(Path(folder), engine, faults, 2 * len(ENDS))
    for fault, (state, reason, attempts) in ENDS.items():
        print(f"{fault}: {state} ({reason}), attempts {', '.join(attempts)}")
    print(f"{len(found)} violations, {len(faults)} neighbors, {time.monotonic() - began:.0f} s")
    for line in found:
        print("   ", line)


if __name__ == "__main__":
    main()
