"""The Ray Tune engine on several nodes, and when the head of its cluster is lost."""

import os

# Before ray is imported: nodes that tests start listen on loopback.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from studies import config, opened

from orchestrator.engines.ray_tune import RayTuneEngine
from search_spaces.space import DefineByRunSpace
from workers.data import DataSpec, load

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TRAIN = '''
import time
from pathlib import Path

import ray


def train(decisions, context):
    """Leaves its node's name behind."""
    (Path(decisions["folder"]) / ray.get_runtime_context().get_node_id()).touch()
    for epoch in range(1, context.epochs + 1):
        time.sleep(0.2)
        yield {"val_accuracy": 0.5}
'''


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_a_study_uses_every_node_of_the_cluster_it_joins(cluster: Any, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    (tmp_path / "mine.py").write_text(TRAIN)

    def asked(trial: Any) -> dict[str, Any]:
        return {"rate": trial.suggest_float("rate", 0, 1), "folder": str(nodes)}

    space = DefineByRunSpace(name="asked", version="1", function=asked)
    settled = config(train=f"{tmp_path / 'mine.py'}:train", stop={"trials": 6})
    with (
        closing(RayTuneEngine(cluster.address)) as engine,
        opened(tmp_path, settled, space=space) as study,
    ):
        engine.run(study, load(DataSpec(source="surrogate")))
        assert study.finished
        assert len(study.trials) == 6
    assert len(list(nodes.iterdir())) == 2


LOSE_HEAD = """
import os, sys, threading, time
from pathlib import Path

import psutil
from studies import config, opened

from orchestrator.engines.ray_tune import EngineLost, RayTuneEngine
from search_spaces.space import DefineByRunSpace
from workers.data import DataSpec, load

folder = Path(sys.argv[1])
asked = lambda trial: {"rate": trial.suggest_float("rate", 0, 1), "folder": str(folder)}
settled = config(train=f"{folder / 'mine.py'}:train", stop={"trials": 1000})
engine = RayTuneEngine()


def kill_head(study):
    while study.snapshot().epochs < 2:
        time.sleep(0.05)
    [head] = [p for p in psutil.Process().children() if p.name() == "gcs_server"]
    head.kill()


space = DefineByRunSpace(name="a", version="1", function=asked)
with opened(folder, settled, space=space) as study:
    threading.Thread(target=kill_head, args=(study,)).start()
    try:
        engine.run(study, load(DataSpec(source="surrogate")))
    except EngineLost as lost:
        print(lost)
    engine.close()
    print("running:", [t.number for t in study.trials if t.state == "RUNNING"])
    print("left:", [p.name() for p in psutil.Process().children() if p.status() != "zombie"])
    sys.stdout.flush()
    os._exit(4)
"""


def test_a_lost_head_leaves_a_resumable_study_and_no_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TRAIN)
    (tmp_path / "lose.py").write_text(LOSE_HEAD)
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "lose.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 4, ended.stderr
    lost, running, left = ended.stdout.splitlines()
    assert "`archscout resume` goes on from there" in lost
    assert running == "running: []"
    assert left == "left: []"
