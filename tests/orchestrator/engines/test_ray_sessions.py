"""Several studies on Ray in one process: each has a live Ray, and leaves nothing running."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from support.processes import children
from support.studies import config, opened

from orchestrator.engines.ray_tune import EngineLostError, RayTuneEngine
from orchestrator.engines.ray_tune.scratch import ROOT_MAX
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import TrialState
from workers.data import DataSpec, load

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TRAIN = """
import time


def train(decisions, context):
    for epoch in range(1, context.epochs + 1):
        time.sleep(0.05)
        yield {"val_accuracy": 0.5}
"""


@pytest.fixture
def long_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder as job schedulers and macOS have it: too long for Ray's sockets."""
    folder = tmp_path / ("d" * 66)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


class Studies:
    """Studies of short trials."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "mine.py").write_text(TRAIN)

    def run(self, name: str, engine: RayTuneEngine, *, trials: int = 2) -> None:
        """Search to the end, in the caller's thread."""
        asked = config(
            train=f"{self._folder / 'mine.py'}:train",
            stop={"trials": trials},
            pruner={"name": "none"},
        )
        folder = self._folder / name
        folder.mkdir()
        with opened(folder, asked) as study:
            if trials > 2:
                threading.Thread(target=kill_head, args=(study,), daemon=True).start()
            engine.run(study, load(DataSpec(source="surrogate")))
            assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * trials


def rays() -> list[psutil.Process]:
    """Processes of Ray that this one has started."""
    return [*children("gcs_server"), *children("raylet")]


def kill_head(study: StudyDriver) -> None:
    while study.snapshot().epochs < 2:
        time.sleep(0.05)
    [head] = children("gcs_server")
    head.kill()


def test_studies_follow_each_other_in_one_process_also_after_a_lost_head(
    tmp_path: Path, long_tmpdir: Path
) -> None:
    assert len(str(long_tmpdir)) > ROOT_MAX
    studies = Studies(tmp_path)
    before = dict(os.environ)
    threads = set(threading.enumerate())

    def nothing_is_left() -> None:
        assert not rays()
        assert dict(os.environ) == before
        left = [
            thread.name for thread in set(threading.enumerate()) - threads if "ray" in thread.name
        ]
        assert not left

    def make_engine() -> RayTuneEngine:
        return RayTuneEngine(ray_options={"num_cpus": 1})

    with closing(make_engine()) as engine:
        # In a thread that ends with it: Linux ends Ray's processes with their starter thread.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(studies.run, "first", engine).result()
        # A second engine shares the Ray of this process, and leaves it to the first.
        with closing(make_engine()) as another:
            studies.run("second", another)
        with pytest.raises(EngineLostError, match="`archscout resume` continues from there"):
            studies.run("lost", engine, trials=1000)
    nothing_is_left()

    for name in ("fourth", "fifth"):
        with closing(make_engine()) as engine:
            studies.run(name, engine)
            token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            assert token.parent.exists()
        assert not token.parent.exists()
        nothing_is_left()
