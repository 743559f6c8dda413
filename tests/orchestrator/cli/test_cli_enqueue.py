"""`archscout enqueue` on a finished study of simulated curves."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.ledger import Ledger

RATE = "recipe.learning_rate=0.02"
SEARCH = ("search", "surrogate", "--trials", "2", "--engine", "in_process")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two trials."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(["--home", str(folder / "home"), "--quiet", *SEARCH]) == 0
    return folder / "home"


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(finished, tmp_path / "home")


def command(home: Path, *words: str) -> int:
    return main(["--home", str(home), *words])


def enqueue(home: Path, *words: str) -> int:
    return command(home, "enqueue", "surrogate", *words)


def document(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert command(home, "--json", *words) == 0
    return json.loads(capsys.readouterr().out)


def trial(home: Path, number: int) -> Any:
    with Ledger.open(home / "ledger.db") as ledger:
        return ledger.trial(1, number)


def test_a_design_waits_for_the_next_driver_which_trains_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(home, capsys, "enqueue", "surrogate", "--like", "1", "--set", RATE)
    assert found["trials"] is None
    [pending] = document(home, capsys, "status", "surrogate")["requests"]
    assert (pending["kind"], pending["answered"], pending["answer"]) == ("enqueue", None, None)
    assert command(home, "status", "surrogate") == 0
    assert "enqueue like 1, recipe.learning_rate 0.02  open" in capsys.readouterr().out
    assert command(home, "--quiet", "resume", "surrogate") == 0
    new = trial(home, 2)
    assert (new.state, new.kind) == ("COMPLETE", "search")
    assert dict(new.params) == {**trial(home, 1).params, "recipe.learning_rate": 0.02}
    status = document(home, capsys, "status", "surrogate")
    assert status["config"]["stop"]["trials"] == 3
    assert status["requests"][0]["answer"] == {"trials": [2]}
    assert command(home, "status", "surrogate") == 0
    assert "enqueue like 1, recipe.learning_rate 0.02  trials 2" in capsys.readouterr().out
    assert command(home, *SEARCH) == 0  # the command that started it still continues it
    assert trial(home, 2).uid == new.uid


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to enqueue: give decisions by path, a candidate, or a trial"),
        (("--like", "0"), "study 'surrogate': the design equals trial 0"),
        (("--like", "7"), "study 'surrogate' has no trial 7. Trials: 0 to 1"),
        (("--set", "recipe"), "--set recipe: write --set PATH=VALUE"),
        (("--set", "recipe.learning_rat=1"), "Did you mean 'recipe.learning_rate'?"),
        (("--set", "recipe.learning_rate=9"), "recipe.learning_rate: 9 is not a number from"),
        (("absent.json",), "No such file"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_requested(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert enqueue(home, *words) == 2
    assert message in capsys.readouterr().err
    with Ledger.open(home / "ledger.db") as ledger:
        assert ledger.requests(1) == []


@pytest.mark.parametrize(
    "text",
    ["[]", "7", "[1]", "{", "[" * 100_000, '{"schema": 1}', '{"schema": 9, "decisions": {}}'],
)
def test_a_file_that_is_no_design_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    file = tmp_path / "design.json"
    file.write_text(text)
    assert enqueue(home, str(file)) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_trial_as_status_prints_it_is_a_design_for_another_study(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "trial.json"
    file.write_text(json.dumps(document(home, capsys, "status", "surrogate", "--trial", "1")))
    assert command(home, "--quiet", *SEARCH, "--name", "other", "--set", "seed=9") == 0
    assert command(home, "enqueue", "other", str(file)) == 0
    assert command(home, "--quiet", "resume", "other") == 0
    with Ledger.open(home / "ledger.db") as ledger:
        assert ledger.trial(2, 2).digest == trial(home, 1).digest


def test_a_list_of_designs_is_added_whole_or_not(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "designs.json"
    file.write_text(json.dumps([{"recipe.learning_rate": 0.02}, {"recipe.learning_rate": 9}]))
    assert enqueue(home, str(file)) == 2
    assert "design 1: recipe.learning_rate: 9 is not" in capsys.readouterr().err
    file.write_text(json.dumps([{"recipe.learning_rate": 0.02}, {"recipe.learning_rate": 0.01}]))
    assert enqueue(home, str(file)) == 0
    assert command(home, "--quiet", "resume", "surrogate") == 0
    assert [trial(home, number).params["recipe.learning_rate"] for number in (2, 3)] == [0.02, 0.01]
