"""The Ray Tune engine on several nodes, and when the head of its cluster is lost."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.processes import lives
from support.studies import config, opened

from orchestrator.engines.ray_tune import RayTuneEngine
from orchestrator.engines.ray_tune.session import _environment
from orchestrator.trial import TrialState
from search_spaces.space import DefineByRunSpace
from search_spaces.user_code import UserCode
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


SHIPPED_FILES = '''
import os
import time
from pathlib import Path

import ray

import neighbor


def train(decisions, context):
    """Leaves the names of its node and process behind."""
    node = ray.get_runtime_context().get_node_id()
    (Path(decisions["folder"]) / f"{node}.{os.getpid()}").touch()
    hold = Path(decisions["folder"]).with_name("hold")
    for epoch in range(1, context.epochs + 1):
        time.sleep(neighbor.PAUSE_S)
        while hold.exists():
            time.sleep(0.05)
        yield {"val_accuracy": 0.5}
'''


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    with _environment(tmp_path):
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        made.add_node(num_cpus=1)
        made.add_node(num_cpus=1)
        yield made
        made.shutdown()


class Marks:
    """What workers left behind: a file for each node and process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def nodes(self) -> set[str]:
        return {path.name.partition(".")[0] for path in self.folder.iterdir()}

    def living(self, node: str) -> list[int]:
        """The processes that trained there and still do."""
        pids = [int(path.suffix[1:]) for path in self.folder.glob(f"{node}.*")]
        return [pid for pid in pids if lives(pid)]


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def test_a_search_outlives_a_node_uses_one_that_joins_and_carries_its_code_to_all(
    cluster: Any, tmp_path: Path
) -> None:
    marks = Marks(tmp_path / "marks")
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text(SHIPPED_FILES)
    (project / "neighbor.py").write_text("PAUSE_S = 0.2\n")

    def asked(trial: Any) -> dict[str, Any]:
        return {"rate": trial.suggest_float("rate", 0, 1), "folder": str(marks.folder)}

    space = DefineByRunSpace(name="asked", version="1", function=asked)
    reference = f"{project / 'mine.py'}:train"
    settled = config(train=reference, stop={"trials": 15}, pruner={"name": "none"})
    code = UserCode.read([reference])
    project.rename(tmp_path / "not-where-it-was")
    with (
        closing(RayTuneEngine(cluster.address, code=code)) as engine,
        opened(tmp_path, settled, space=space) as study,
    ):
        running = threading.Thread(
            target=engine.run, args=(study, load(DataSpec(source="surrogate")))
        )
        running.start()
        assert within(240, lambda: len(marks.nodes()) == 3)

        # No trial ends until the node that joins is used: Tune gives a waiting trial the first
        # process that is free, and ends the one that starts for it elsewhere.
        hold = tmp_path / "hold"
        hold.touch()
        lost = cluster.list_all_nodes()[1]
        # Its workers are left to themselves, and go as well.
        lost.all_processes["raylet"][0].process.kill()
        assert within(120, lambda: any(trial.attempts == 2 for trial in study.trials))
        assert within(60, lambda: not marks.living(lost.node_id))

        joined = cluster.add_node(num_cpus=1)
        assert within(120, lambda: joined.node_id in marks.nodes())
        hold.unlink()
        running.join()
        assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
        assert [t.number for t in study.trials] == list(range(15))
        epochs = list(range(1, settled.budget.maximum + 1))
        for trial in study.trials:
            assert [seen.fidelity for seen in trial.measurements] == epochs


LOSE_HEAD = """
import os, sys, threading, time
from pathlib import Path

import psutil
from support.processes import children, lives, of_living
from support.studies import config, opened

from orchestrator.engines.ray_tune import EngineLostError, RayTuneEngine
from search_spaces.space import DefineByRunSpace
from workers.data import DataSpec, load

folder = Path(sys.argv[1])
asked = lambda trial: {"rate": trial.suggest_float("rate", 0, 1), "folder": str(folder)}
settled = config(train=f"{folder / 'mine.py'}:train", stop={"trials": 1000})
engine = RayTuneEngine()


def kill_head(study):
    while study.snapshot().epochs < 2:
        time.sleep(0.05)
    [head] = children("gcs_server")
    head.kill()


space = DefineByRunSpace(name="a", version="1", function=asked)
with opened(folder, settled, space=space) as study:
    threading.Thread(target=kill_head, args=(study,)).start()
    try:
        engine.run(study, load(DataSpec(source="surrogate")))
    except EngineLostError as lost:
        print(lost)
    engine.close()
    print("running:", [t.number for t in study.trials if t.state == "RUNNING"])
    left = [each for each in psutil.Process().children() if lives(each.pid)]
    print("left:", [of_living(psutil.Process.name, each) for each in left])
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
        timeout=280,
        check=False,
    )
    assert ended.returncode == 4, ended.stderr
    lost, running, left = ended.stdout.splitlines()
    assert "`archscout resume` continues from there" in lost
    assert running == "running: []"
    assert left == "left: []"
