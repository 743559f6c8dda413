"""The Ray Tune engine on a real Ray: isolation, placement, interruption, and what it opens."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray  # noqa: F401 - a user's code may have loaded it before the environment is set
from support.processes import lives, of_living
from support.studies import config, opened

from orchestrator.engines.ray_tune import NodesUnfitError, RayTuneEngine, ResourcesTooLargeError
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import TrialState
from search_spaces.space import DefineByRunSpace
from workers.data import Dataset, DataSpec, load
from workers.storage import RemoteFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MACHINE = {"num_cpus": 8, "num_gpus": 1}
"""Resources declared to Ray."""

TRAIN = '''
import ctypes, os, signal, time
from pathlib import Path

import ray


def train(decisions, context):
    """In its first attempt, does what its decision says after one epoch."""
    folder = Path(decisions["folder"])
    (folder / str(os.getpid())).write_text(f"{os.nice(0)} {context.threads}")
    first = folder / f"trial-{decisions['number']}"
    kind = "good" if first.exists() else decisions["kind"]
    first.touch()
    granted = ray.get_runtime_context().get_assigned_resources()
    (folder / f"{kind}-{decisions['number']}").write_text(f"{granted['CPU']} {granted['GPU']}")
    while kind == "waits for three others" and len(list(folder.glob("[0-9]*"))) < 4:
        time.sleep(0.05)
    for epoch in range(1, context.epochs + 1):
        yield {"val_accuracy": 0.5}
        if kind == "exits":
            os._exit(3)
        if kind == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "needs room":
            raise MemoryError
        if kind == "is stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if kind == "sleeps":
            time.sleep(1000)
        if kind == "holds the lock":
            ctypes.PyDLL(None).sleep(1000)
'''


class Script:
    """A study of one trial for each behavior, in their order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "mine.py").write_text(TRAIN)
        self.left = folder / "left"
        self.left.mkdir()

    @contextmanager
    def study(self, *kinds: str, draw_s: float = 0.0) -> Iterator[StudyDriver]:
        def asked(trial: Any) -> dict[str, Any]:
            number = trial.suggest_int("number", 0, len(kinds) - 1)
            time.sleep(draw_s)
            return {"number": number, "kind": kinds[number], "folder": str(self.left)}

        settled = config(
            train=f"{self._folder / 'mine.py'}:train",
            stop={"trials": len(kinds)},
            budget={"minimum": 3, "maximum": 3, "reduction_factor": 3},
            seed_points=[{"number": number} for number in range(len(kinds))],
        )
        space = DefineByRunSpace(name="script", version="1", function=asked)
        with opened(self._folder, settled, space=space) as study:
            yield study

    def first_outcomes(self) -> dict[int, str]:
        """How the first attempt of each trial ended, by its number."""
        query = (
            "select trial.number, attempt.outcome from attempt join trial"
            " on trial.uid = attempt.trial_uid where attempt.number = 1"
        )
        with closing(sqlite3.connect(self._folder / "ledger.db")) as ledger:
            return dict(ledger.execute(query))

    def workers(self) -> dict[int, str]:
        """What each process that trained wrote down, by its pid."""
        return {int(p.name): p.read_text() for p in self.left.glob("[0-9]*")}

    def living(self) -> list[int]:
        return [pid for pid in self.workers() if lives(pid)]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load(DataSpec(source="surrogate"))


@pytest.fixture(scope="module")
def engine() -> Iterator[RayTuneEngine]:
    made = RayTuneEngine(cpu=1.0, gpu=0.25, silence_s=2.0, ray_options=MACHINE)
    yield made
    made.close()


def command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def listening(process: psutil.Process) -> set[str]:
    """The addresses at which it takes calls."""
    return {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def test_a_trial_that_dies_or_hangs_changes_no_other_and_is_tried_again(
    engine: RayTuneEngine, data: Dataset, script: Script, capfd: pytest.CaptureFixture[str]
) -> None:
    kinds = ("good", "exits", "is killed", "sleeps", "holds the lock", "is stopped", "good")
    with script.study(*kinds) as study:
        engine.run(study, data)
        assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
        assert [trial.attempts for trial in study.trials] == [1, 2, 2, 2, 2, 2, 1]
    outcomes = script.first_outcomes()
    assert [outcomes[number] for number in (1, 2)] == ["crash", "crash"]
    assert [outcomes[number] for number in (3, 4, 5)] == ["timeout"] * 3
    assert capfd.readouterr().out == ""


def test_after_memory_ran_out_a_trial_is_placed_with_twice_the_share(
    engine: RayTuneEngine, data: Dataset, script: Script
) -> None:
    with script.study("good", "needs room", "good", "good", "good", "good") as study:
        engine.run(study, data)
        assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
        assert [trial.attempts for trial in study.trials] == [1, 2, 1, 1, 1, 1]
    assert script.first_outcomes()[1] == "out_of_memory"
    left = script.left
    assert (left / "needs room-1").read_text() == "1.0 0.25"
    assert (left / "good-1").read_text() == "2.0 0.5"
    assert (left / "good-5").read_text() == "1.0 0.25"


def test_a_quarter_of_a_gpu_places_four_trials_on_one_and_processes_are_kept(
    engine: RayTuneEngine, data: Dataset, script: Script
) -> None:
    most = 0
    # All four end while the fifth is sampled, and none of their processes is needless.
    with script.study(*["waits for three others"] * 6, draw_s=0.5) as study:
        running = threading.Thread(target=engine.run, args=(study, data))
        running.start()
        while running.is_alive():
            most = max(most, len(study.snapshot().running))
            time.sleep(0.02)
        assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert most == 4
    assert len(script.workers()) == 4
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert set(script.workers().values()) == {f"{ours} 1"}  # niceness and threads


def test_a_stop_in_the_middle_of_an_epoch_leaves_within_seconds_and_leaves_nothing(
    engine: RayTuneEngine, data: Dataset, script: Script
) -> None:
    with script.study("sleeps", "sleeps", "good") as study:
        running = threading.Thread(target=engine.run, args=(study, data))
        running.start()
        assert within(120, lambda: len(script.workers()) >= 2)
        study.request_stop("signal")
        stopped = time.monotonic()
        running.join()
        assert time.monotonic() - stopped < 60  # an epoch takes 1,000 s
        assert TrialState.RUNNING not in {trial.state for trial in study.trials}
    assert within(60, lambda: not script.living())


def test_ray_listens_on_loopback_only_and_requires_a_token(
    engine: RayTuneEngine, data: Dataset, script: Script
) -> None:
    with script.study("good") as study:
        engine.run(study, data)
    me = psutil.Process()
    # Not a browser that other tests left open.
    children = me.children(recursive=True)
    rays = [each for each in children if "ray" in (of_living(command, each) or "")]
    assert rays
    places = [of_living(listening, process) or set() for process in [me, *rays]]
    assert set.union(*places) == {"127.0.0.1"}
    assert os.environ["RAY_AUTH_MODE"] == "token"
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700


def test_a_trial_larger_than_every_node_is_refused(
    engine: RayTuneEngine, data: Dataset, script: Script
) -> None:
    with (
        script.study("good") as study,
        pytest.raises(ResourcesTooLargeError, match=r"cpu 9 .* no node has as much"),
        closing(RayTuneEngine(cpu=9.0, ray_options=MACHINE)) as large,
    ):
        large.run(study, data)


def test_nodes_that_cannot_train_trials_are_refused_before_the_first_trial(
    engine: RayTuneEngine, data: Dataset, script: Script, tmp_path: Path
) -> None:
    nowhere = RemoteFolder("memory://seen-by-this-process-alone")
    ours = config(space="tiny", train=None, data={"source": "digits", "limit": 50})
    with opened(tmp_path, ours) as study:
        lacks: tuple[tuple[dict[str, Any], str], ...] = (
            ({"checkpoints": nowhere}, "cannot read and write memory://seen-by-this"),
            # The cluster was started with one declared.
            ({"gpu": 0.5}, r"finds no GPU there: .* resources.gpu=0"),
        )
        for asked, said in lacks:
            made = RayTuneEngine(**asked, ray_options=MACHINE)
            with closing(made), pytest.raises(NodesUnfitError, match=said):
                made.run(study, data)
        assert not study.trials
    assert not nowhere.exists()


TERMINATED = """
import os, signal, sys
from pathlib import Path
from support.processes import lives, of_living
from support.studies import config, opened
from orchestrator.engines.ray_tune import RayTuneEngine
from workers.data import DataSpec, load

folder, seen = Path(sys.argv[1]), []
signal.signal(signal.SIGTERM, lambda *_: seen.append("ours"))
engine = RayTuneEngine()
settled = config(train=f"{folder / 'mine.py'}:train", stop={"trials": 1})
with opened(folder, settled) as study:
    engine.run(study, load(DataSpec(source="surrogate")))
os.kill(os.getpid(), signal.SIGTERM)
print(seen, "aborted in", signal.alarm(0))
engine.close()
"""


def test_the_handler_of_sigterm_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def train(decisions, context):\n"
        "    for epoch in range(context.epochs):\n"
        "        yield {'val_accuracy': 0.5}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", TERMINATED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.stdout == "['ours'] aborted in 0\n", ended.stderr
    assert "SIGTERM" not in ended.stderr
