import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import ArchscoutError, load_study
from orchestrator.cli import main

STUDY = """
space: tiny
data: {source: surrogate}
budget: {minimum: 1, maximum: 3}
pruner: {name: none}
stop: {trials: 4}
engine: {name: in_process}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a finished study `mine` that is not confirmed."""
    folder = tmp_path_factory.mktemp("confirm")
    (folder / "mine.yaml").write_text(STUDY)
    assert main(["--home", str(folder / "h"), "--quiet", "search", str(folder / "mine.yaml")]) == 0
    return folder / "h"


def called(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = main(["--home", str(home), "--json", *words])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "there is no study 'nothing'"),
        (["mine", "--top", "0"], "must be between 1 and 10"),
        (["mine", "--top", "11"], "must be between 1 and 10"),
        (["mine", "--seeds", "2"], "must be between 3 and 100"),
        (["mine", "--seeds", "many"], "'many' is not a whole number"),
        (["mine", "--tpo", "2"], "unrecognized argument '--tpo'. Did you mean '--top'?"),
    ],
)
def test_bad_input_is_refused_with_exit_code_2(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, document = called(home, capsys, "confirm", *words)
    assert code == 2
    assert message in document["errors"][0]


def test_a_finished_study_is_confirmed_once_and_its_answer_is_shown_everywhere(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, before = called(home, capsys, "leaderboard", "mine")
    assert before["answer"]["sentence"].startswith("not confirmed: ")
    code, document = called(home, capsys, "confirm", "mine", "--top", "2", "--seeds", "3")
    answer = document["answer"]
    assert code == 0
    assert answer["decided"]
    assert len(answer["candidates"]) == 2
    assert len(document["trials"]) == len(before["trials"])
    assert document["counts"] == before["counts"]
    assert document["state"] == "finished"
    again = called(home, capsys, "confirm", "mine", "--top", "2", "--seeds", "3")[1]
    assert again["answer"] == answer
    assert "mlflow" not in again
    for command in ("leaderboard", "status"):
        assert called(home, capsys, command, "mine")[1]["answer"] == answer
    assert main(["--home", str(home), "leaderboard", "mine"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(answer["sentence"])
    assert load_study("mine", home=home).answer.sentence == answer["sentence"]
    assert load_study("mine", home=home).confirm(top=2, seeds=3, progress=False).decided
    with pytest.raises(ArchscoutError, match="seeds must be between 3 and 100"):
        load_study("mine", home=home).confirm(seeds=1)


def test_a_study_with_the_key_ends_its_search_with_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"{STUDY}confirm: {{top: 1, seeds: 3}}\n")
    code, document = called(tmp_path / "h", capsys, "search", str(file))
    assert code == 0
    assert document["answer"]["decided"]
    assert main(["--home", str(tmp_path / "h"), "resume", "mine"]) == 0
    assert document["answer"]["sentence"] in capsys.readouterr().out


def test_without_a_candidate_there_is_nothing_to_confirm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"{STUDY}confirm: {{top: 1, seeds: 3}}\n")
    words = ["search", str(file), "--trials", "1"]
    code, document = called(tmp_path / "h", capsys, *words)
    assert code == 0
    assert not document["answer"]["decided"]
    code, document = called(tmp_path / "h", capsys, "confirm", "mine")
    assert code == 3
    assert "only the default of 'mine' is complete" in document["errors"][0]
