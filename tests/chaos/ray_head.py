"""A Ray on loopback for the drivers of many rounds: says its address, lives until its input ends.

Apart from the rounds and not in them, for a driver may only be forked from a process without Ray.
"""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SLOTS = 2
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback alone, see engines/ray_tune/cluster.py
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AUTH_MODE": "token",
}


@contextmanager
def running(scratch: Path) -> Iterator[str]:
    """Run a cluster of one node, and return its address."""
    token = scratch / "ray.token"
    token.touch(mode=0o600)
    token.write_text(os.urandom(32).hex())
    os.environ |= {**ENVIRONMENT, "RAY_AUTH_TOKEN_PATH": str(token)}
    with (
        (scratch / "ray.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as head,
    ):
        assert head.stdin is not None
        assert head.stdout is not None
        address = head.stdout.readline().decode().strip()
        assert address, f"Ray did not start: {(scratch / 'ray.log').read_text()[-500:]}"
        try:
            yield address
        finally:
            head.stdin.close()


def main() -> None:
    """Start the cluster, print its address, and wait."""
    from ray.cluster_utils import Cluster

    answers = os.dup(1)
    os.dup2(2, 1)  # Ray talks on its standard output
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": SLOTS, "object_store_memory": 200 << 20},
    )
    os.write(answers, cluster.address.encode() + b"\n")
    started_by = os.getppid()
    # A driver that outlives a harness that was killed holds our input open.
    while os.getppid() == started_by and not select.select([0], [], [], 1.0)[0]:
        pass
    cluster.shutdown()


if __name__ == "__main__":
    main()
