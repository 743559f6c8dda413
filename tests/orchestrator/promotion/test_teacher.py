"""Candidates of another study distill from a promoted model, and from promoted models alone."""

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.store import serving

from orchestrator.errors import PromotionRefusedError
from orchestrator.home import Home
from orchestrator.ledger import Ledger
from orchestrator.promotion import teacher
from orchestrator.promotion.teacher import RegisteredTeacher, fetch
from workers.data import load
from workers.data.spec import DataSpec

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]

SPACE = """
from search_spaces.catalog import load
from search_spaces.losses import loss_domain
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


@pytest.fixture
def own_home(promoted: Path, tmp_path: Path) -> Path:
    """A copy of the home, for tests that add studies to it."""
    return Path(shutil.copytree(promoted, tmp_path / "home"))


def test_a_study_distils_from_a_promoted_model(
    own_home: Path, study: Callable[[str], Path], answer: Callable[..., Any]
) -> None:
    code, _, said = answer("search", str(study("teacher: digits/1\n")), at=own_home)
    assert code == 0, said
    _, trial, _ = answer("status", "pupils", "--trial", "0", at=own_home)
    seen = trial["trial"]["measurements"][-1]["metrics"]
    assert seen["terms/distillation"] > 0
    assert 0 < seen["weights/distillation"] < 1
    (teacher,) = (own_home / "checkpoints" / "pupils").glob("teacher-*")
    assert {path.name for path in teacher.iterdir()} == {
        "manifest.json",
        "model.json",
        "weights.safetensors",
    }


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", "pupils: teacher: is missing: a loss term of this space distils."),
        ("teacher: digits/9\n", "there is no version 9 of a model 'digits'. Models: "),
        ("teacher: digits\n", "is not a model and version; write MODEL/VERSION, such as digits/1"),
    ],
)
def test_an_unknown_teacher_is_refused_and_nothing_created(
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
    assert not (promoted / "checkpoints" / "pupils").exists()


def test_a_teacher_of_other_classes_is_refused_and_nothing_created(
    promoted: Path, tmp_path: Path, study: Callable[[str], Path], answer: Callable[..., Any]
) -> None:
    digits = load(DataSpec(source="digits")).train
    names = np.array([f"digit {label}" for label in digits.targets[:200]])
    np.savez(tmp_path / "named.npz", x=digits.inputs["image"][:200, 0], y=names)
    more = "teacher: digits/1\ndata: {source: npz, path: named.npz}\n"
    text = study(more).read_text().replace("data: {source: digits}\n", "")
    (tmp_path / "study.yaml").write_text(text)
    code, _, said = answer("search", str(tmp_path / "study.yaml"), at=promoted)
    assert code == 2
    assert (
        "teacher: digits/1 outputs 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9); this study's" in said
    )
    assert answer("status", "pupils", at=promoted)[0] == 2


def interrupt(home: Path) -> None:
    """Leave the pupils' study as a driver does that was stopped."""
    with closing(sqlite3.connect(home / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE study SET state = 'interrupted' WHERE name = 'pupils'")


def test_a_study_resumes_only_with_its_own_teacher(
    own_home: Path,
    tmp_path: Path,
    study: Callable[[str], Path],
    answer: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert answer("search", str(study("teacher: digits/1\n")), at=own_home)[0] == 0
    interrupt(own_home)
    assert answer("resume", "pupils", at=own_home)[0] == 0
    interrupt(own_home)

    def another(*asked: Any) -> RegisteredTeacher:
        return dataclasses.replace(fetch(*asked), manifest_sha256="f" * 64)

    monkeypatch.setattr(teacher, "fetch", another)
    code, _, said = answer("resume", "pupils", at=own_home)
    assert code == 2
    assert "the teacher has changed since" in said
    more = "teacher: digits/1\nname: others\nwarm_start: [pupils]\n"
    later = study(more).read_text().replace("name: pupils\n", "", 1)
    (tmp_path / "study.yaml").write_text(later)
    code, _, said = answer("search", str(tmp_path / "study.yaml"), at=own_home)
    assert code == 2
    assert "results of study 'pupils' are not comparable: it has another teacher" in said


def test_a_teacher_is_read_from_the_store_of_the_checkpoints(
    own_home: Path,
    study: Callable[[str], Path],
    answer: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as store:
        monkeypatch.setenv("ARCHSCOUT_CHECKPOINTS", f"{store.url}/kept")
        code, _, said = answer("search", str(study("teacher: digits/1\n")), at=own_home)
        assert code == 0, said
        assert any("/pupils/teacher-" in path for path in store.files)
    _, trial, _ = answer("status", "pupils", "--trial", "0", at=own_home)
    assert trial["trial"]["measurements"][-1]["metrics"]["terms/distillation"] > 0


def test_a_teacher_of_a_users_own_blocks_is_refused(promoted: Path) -> None:
    home = Home.find(str(promoted), {})
    with Ledger.open(home.ledger_url) as ledger:
        teacher = fetch("digits/1", home, ledger)
    digits = load(DataSpec(source="digits"))
    teacher.require_fit(digits, None)
    facts = teacher.files["model.json"].replace(b'"classify"', b'"head_of_a_users_own"')
    assert facts != teacher.files["model.json"]
    other = dataclasses.replace(teacher, files={**teacher.files, "model.json": facts})
    with pytest.raises(PromotionRefusedError, match="a user's own code is not part of a teach"):
        other.require_fit(digits, None)
