"""A promoted model teaches the candidates of another study, and only what was promoted does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]

SPACE = """
from search_spaces.catalog import load
from search_spaces.loss_weights import loss_domain
from search_spaces.space import SearchSpace

space = SearchSpace.of(
    name="pupils",
    version="1",
    architecture=load("tiny").candidates.fields["architecture"],
    recipe=load("tiny").candidates.fields["recipe"],
    losses=loss_domain(main=("cross_entropy",), side=(), always=("distillation",)),
)
"""
STUDY = "name: pupils\nspace: pupils.py:space\ndata: {source: digits}\nstop: {trials: 1}\n"
STUDY += "budget: {maximum: 1}\nengine: {name: in_process}\n"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    (tmp_path / "pupils.py").write_text(SPACE)
    monkeypatch.chdir(tmp_path)

    def write(more: str) -> Path:
        (tmp_path / "study.yaml").write_text(STUDY + more)
        return tmp_path / "study.yaml"

    return write


def test_a_study_learns_from_a_promoted_model(
    promoted: Path, tmp_path: Path, study: Callable[[str], Path], answer: Callable[..., Any]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(promoted, home)
    code, _, said = answer("search", str(study("teacher: digits/1\n")), at=home)
    assert code == 0, said
    _, trial, _ = answer("status", "pupils", "--trial", "0", at=home)
    seen = trial["trial"]["measurements"][-1]["metrics"]
    assert seen["terms/distillation"] > 0
    assert 0 < seen["weights/distillation"] < 1
    (teacher,) = (home / "teachers").iterdir()
    assert teacher.name == "digits-1"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", "pupils: teacher: is missing: a loss term of this space distils."),
        ("teacher: digits/9\n", "there is no version 9 of a model 'digits'. Models: "),
        ("teacher: digits\n", "names no model and version; write MODEL/VERSION, such as digits/1"),
    ],
)
def test_a_teacher_that_is_not_there_is_refused_and_nothing_created(
    promoted: Path,
    study: Callable[[str], Path],
    answer: Callable[..., Any],
    more: str,
    expected: str,
) -> None:
    code, _, said = answer("search", str(study(more)), at=promoted)
    assert code == 2
    assert expected in said
    assert answer("status", "pupils", at=promoted)[0] == 2
    assert not (promoted / "teachers").exists()
