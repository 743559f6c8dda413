"""A search from the command line: its output, its exit code, and the commands after it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.processes import lives
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from orchestrator.ledger import Holder, Ledger
from orchestrator.trial import TrialState

QUICK = ["surrogate", "--engine", "in_process", "--set", "space=tiny", "--set", "budget.maximum=3"]


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    return


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "mlruns"


def search(*words: str) -> int:
    return main(["search", *QUICK, *words])


@pytest.mark.usefixtures("untracked")
class TestSearch:
    def test_a_search_ends_with_its_leaderboard_and_the_next_steps(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search("--trials", "4") == 0
        shown = capsys.readouterr().out
        for part in (
            "study      surrogate",
            "space      tiny, infinitely many",
            "until      4 trials",
            "rank  trial  val_accuracy  epochs  parameters",
            "4 complete",
            "archscout ui",
            "archscout leaderboard surrogate",
        ):
            assert part in shown
        with Ledger.open(home / "ledger.db") as ledger:
            row = ledger.study("surrogate")
            assert row is not None
            assert row.state == "finished"
            assert all(t.state is TrialState.COMPLETE for t in ledger.trials(row.id))
        assert home.stat().st_mode & 0o777 == 0o700

    def test_json_holds_the_leaderboard_and_nothing_else_is_printed(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search("--trials", "3", "--json") == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["exit_code"] == 0
        assert answer["state"] == "finished"
        assert [row["rank"] for row in answer["trials"]] == [1, 2, 3]
        values = [row["values"]["val_accuracy"] for row in answer["trials"]]
        assert values == sorted(values, reverse=True)

    def test_quiet_prints_the_leaderboard_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert search("--trials", "2", "--quiet") == 0
        assert capsys.readouterr().out.lstrip().startswith("rank")

    def test_a_finished_study_shows_its_leaderboard_again(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search("--trials", "2") == 0
        capsys.readouterr()
        assert search("--trials", "2") == 0
        shown = capsys.readouterr().out
        assert "Study 'surrogate' is finished." in shown
        assert "rank  trial" in shown
        assert main(["resume", "surrogate"]) == 0
        shown = capsys.readouterr().out
        assert "is finished" in shown
        # Nothing was projected here, and a resume of what is finished would not do it.
        assert (
            "MLflow does not show all of the study yet. Show the rest: archscout sync surro"
            in shown
        )

    @pytest.mark.parametrize("command", [["search"], ["search", "--dry-run"]])
    def test_a_seed_point_outside_the_space_creates_no_study(
        self, home: Path, capsys: pytest.CaptureFixture[str], command: list[str]
    ) -> None:
        assert main([*command, *QUICK, "--set", "seed_points=[{recipe.learning_rat: 0.1}]"]) == 2
        [error] = capsys.readouterr().err.splitlines()
        assert error.startswith("surrogate: seed_points[0].recipe.learning_rat: the space has ")
        assert error.endswith("Did you mean 'recipe.learning_rate'?")
        assert not home.exists()

    def test_another_config_under_the_same_name_is_refused_with_the_difference(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search("--trials", "2") == 0
        assert search("--trials", "3", "--set", "seed=1") == 2
        errors = capsys.readouterr().err.splitlines()
        assert errors == [
            "study 'surrogate' exists with another config:",
            "  seed: 0 -> 1",
            "  stop.trials: 2 -> 3",
            "The study is finished (its 2 trials have ended). Start another study: archscout "
            "search surrogate --set space=tiny --set budget.maximum=3 --set seed=1 --trials 3 "
            "--engine in_process --name surrogate2 --set 'warm_start=[surrogate]'",
            "or extend the stored one: archscout extend surrogate --trials +2",
        ]
        assert search("--trials", "3", "--name", "other") == 0

    def test_a_study_continues_at_a_new_cluster_address(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str | None] = []

        class Nowhere:
            def __init__(self, address: str | None, **_: object) -> None:
                asked.append(address)

            def run(self, study: Any, _dataset: object) -> None:
                study.request_stop("signal")

            def close(self) -> None:
                """Nothing runs."""

        monkeypatch.setattr("orchestrator.engines.ray_tune.RayTuneEngine", Nowhere)
        anywhere = ["--engine", "ray_tune", "--trials", "2"]
        assert search(*anywhere, "--address", "127.0.0.1:1") == 4
        assert search(*anywhere, "--address", "127.0.0.1:2") == 4
        assert main(["resume", "surrogate", "--address", "127.0.0.1:3"]) == 4
        assert main(["resume", "surrogate"]) == 4
        assert asked == ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", None]

    def test_a_dry_run_shows_what_would_run_and_writes_nothing(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search("--dry-run") == 0
        shown = capsys.readouterr().out
        assert "first candidate  C8-C8" in shown
        assert "parameters 1,954" in shown
        assert not home.exists()

    def test_a_study_whose_trials_all_fail_is_aborted_with_exit_code_5(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = own_study(tmp_path, "raise RuntimeError('no such file: shards.tar')\n    yield")
        assert main(["search", str(config)]) == 5
        errors = capsys.readouterr().err
        assert "study 'mine' was aborted" in errors
        assert "once your files have changed: archscout search CONFIG --name mine2" in errors
        assert "Traceback" not in errors
        assert main(["status", "mine", "--trial", "0"]) == 0
        assert "shards.tar" in capsys.readouterr().out

    @pytest.mark.parametrize("command", [["search"], ["search", "--dry-run"], ["space"]])
    def test_a_space_that_raises_is_refused_and_creates_no_study(
        self, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], command: list[str]
    ) -> None:
        config = own_study(tmp_path, "yield {'val_accuracy': 0.5}")
        (tmp_path / "mine.py").write_text(
            "def space(trial):\n    raise KeyError('widht')\ndef train(d, c):\n    yield {}\n"
        )
        assert main([*command, str(config)]) == 2
        errors = capsys.readouterr().err
        assert errors == "mine: space: the space raised KeyError: 'widht'\n"
        assert not home.exists()

    def test_an_existing_project_becomes_a_study(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = own_study(tmp_path, "yield {'val_accuracy': decisions['x']}")
        assert main(["search", str(config)]) == 0
        assert "x=" in capsys.readouterr().out
        (tmp_path / "mine.py").write_text("changed = True\n" + (tmp_path / "mine.py").read_text())
        with Ledger.open(tmp_path / "mlruns" / "ledger.db") as ledger:
            _, lease = ledger.open_study(
                name="mine", config_json=None, holder=Holder.of_this_process()
            )
            ledger.set_study_state(lease, "interrupted")
            ledger.release(lease)
        assert main(["resume", "mine"]) == 2
        assert "your own Python files have changed since" in capsys.readouterr().err

    def test_a_running_study_is_refused_to_a_second_driver(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search("--trials", "2") == 0
        with Ledger.open(home / "ledger.db") as ledger:
            _, lease = ledger.open_study(
                name="surrogate", config_json=None, holder=Holder.of_this_process()
            )
            ledger.set_study_state(lease, "running")
            holder = subprocess.run(
                [sys.executable, "-m", "orchestrator.cli", "resume", "surrogate"],
                env={**os.environ, "ARCHSCOUT_HOME": str(home)},
                capture_output=True, text=True, check=False, timeout=240,
            )  # fmt: skip
            assert holder.returncode == 3
            assert f"process {os.getpid()}" in holder.stderr

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("x = (", "mine.py:1: cannot be run"),
            ("def spaces(trial): ...\ndef train(d, c): ...", "defines no 'space'"),
            ("space = 5\ndef train(d, c): ...", "'space' is neither a SearchSpace nor"),
            ("def space(trial): ...\ntrain = 5", "'train' is no function"),
        ],
    )
    def test_mistakes_in_the_users_file_are_found_before_anything_is_written(
        self, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = own_study(tmp_path, "yield {}")
        (tmp_path / "mine.py").write_text(text)
        assert main(["search", str(config)]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert "Traceback" not in errors
        assert not (tmp_path / "mlruns").exists()

    def test_invalid_data_is_refused_before_anything_is_written(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = tmp_path / "study.yaml"
        config.write_text(f"space: tiny\ndata: {{source: idx, path: {tmp_path}}}")
        assert main(["search", str(config)]) == 2
        assert "no train-images-idx3-ubyte" in capsys.readouterr().err
        assert not (tmp_path / "mlruns").exists()


@pytest.mark.usefixtures("untracked")
def test_reading_commands_show_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert search("--trials", "3") == 0
    capsys.readouterr()

    def answer(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    (listed,) = answer("list")["studies"]
    assert (listed["name"], listed["state"], listed["trials"]) == ("surrogate", "finished", 3)
    assert answer("status", "surrogate")["counts"] == {"complete": 3}
    trial = answer("status", "surrogate", "--trial", "1")["trial"]
    assert [seen["epoch"] for seen in trial["measurements"]] == [1, 2, 3]
    assert len(answer("leaderboard", "surrogate", "--top", "2")["trials"]) == 2
    for words in (["list"], ["status", "surrogate"], ["status", "surrogate", "--trial", "1"]):
        assert main(words) == 0
        assert "surrogate" in capsys.readouterr().out
    assert main(["status", "surrogate", "--trial", "7"]) == 2
    assert "has no trial 7. Trials: 0 to 2." in capsys.readouterr().err
    assert main(["leaderboard", "surogate"]) == 2
    assert "Did you mean 'surrogate'?" in capsys.readouterr().err


def own_study(folder: Path, body: str) -> Path:
    """A study of the user's own function and training."""
    (folder / "mine.py").write_text(
        "def space(trial):\n    return {'x': trial.suggest_float('x', 0.0, 1.0)}\n"
        f"def train(decisions, context):\n    {body}\n"
    )
    config = folder / "study.yaml"
    config.write_text(
        "name: mine\nspace: mine.py:space\ntrain: mine.py:train\nstop: {trials: 6}\n"
        "budget: {minimum: 1, maximum: 1}\nengine: {name: in_process}\nsampler: {name: random}\n"
    )
    return config


SLOW = """yield {'val_accuracy': 0.1}
    import time
    while True:
        time.sleep(0.05)
        yield {'val_accuracy': 0.2}"""


STUCK = """yield {'val_accuracy': 0.1}
    import subprocess, time
    open('child', 'w').write(str(subprocess.Popen(['sleep', '300']).pid))
    while True:
        time.sleep(60)"""


def start_slow_search(folder: Path, body: str = SLOW) -> "subprocess.Popen[str]":
    """A search in a process of its own, once its first trial runs."""
    config = own_study(folder, body)
    config.write_text(config.read_text().replace("maximum: 1", "maximum: 1000"))
    code = (
        "import sys, orchestrator.run\n"
        "class T:\n    def drain(self, *_): return True\n    def close(self): pass\n"
        "    cancel_wait = close\n"
        "orchestrator.run.start_projector = lambda **_: T()\n"
        "from orchestrator.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "search", str(config)],
        env={**os.environ, "ARCHSCOUT_HOME": str(folder / "mlruns")}, cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "mlruns" / "ledger.db").exists():
            with Ledger.open(folder / "mlruns" / "ledger.db") as ledger:
                row = ledger.study("mine")
                if row and any(trial.measurements for trial in ledger.trials(row.id)):
                    return process
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_study_that_can_be_resumed(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = start_slow_search(tmp_path)
    process.send_signal(number)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 4, errors
    assert "stopping; continue later with: archscout resume mine" in errors
    assert "study 'mine' was interrupted; resume it: archscout resume mine" in errors
    assert "Traceback" not in errors + out
    with Ledger.open(tmp_path / "mlruns" / "ledger.db") as ledger:
        row = ledger.study("mine")
        assert row is not None
        assert row.state == "interrupted"
        assert {trial.state for trial in ledger.trials(row.id)} == {TrialState.WAITING}
        # No process holds the lease any more.
        ledger.open_study(name="mine", config_json=None, holder=Holder.of_this_process())


def test_a_signal_while_mlflow_catches_up_ends_only_the_wait(tmp_path: Path) -> None:
    """The study is finished by then and remains so."""
    code = (
        "import os, signal, sys, threading; import orchestrator.run\n"
        "class Behind:\n"
        "    reason = 'UNAUTHENTICATED: invalid token'\n"
        "    def __init__(self): self.over = threading.Event()\n"
        "    def drain(self, *_):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return not self.over.wait(300)\n"
        "    def cancel_wait(self): self.over.set()\n"
        "    def close(self): pass\n"
        "orchestrator.run.start_projector = lambda **_: Behind()\n"
        "from orchestrator.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "search", *QUICK, "--trials", "2"],
        env={**os.environ, "ARCHSCOUT_HOME": str(tmp_path / "mlruns")}, cwd=tmp_path,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "leaving MLflow behind; nothing is lost" in ran.stderr
    assert (
        "MLflow does not show all of the study yet: UNAUTHENTICATED: invalid token\n"
        "After fixing the cause: archscout sync surrogate\n"
    ) in ran.stdout
    with Ledger.open(tmp_path / "mlruns" / "ledger.db") as ledger:
        row = ledger.study("surrogate")
        assert row is not None
        assert row.state == "finished"


def test_the_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    process = start_slow_search(tmp_path, STUCK)
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    # Two signals at a time would be one.
    while "again to leave at once" not in (said := process.stderr.readline()):
        assert said
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)  # an epoch takes 60 s
    assert process.returncode == 4
    process.communicate()
    child = int((tmp_path / "child").read_text())
    assert not lives(child)
