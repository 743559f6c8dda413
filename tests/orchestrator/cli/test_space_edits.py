"""Edits of the space in study.yaml, on the command line and in Python."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.trackers import NoTracker

import orchestrator.run
from orchestrator import create_study
from orchestrator.cli import main
from orchestrator.config.load import Override, load
from orchestrator.config.schema import SpaceConfig, StudyConfig
from orchestrator.errors import ProblemsError
from orchestrator.ledger import Ledger
from orchestrator.study.moved_files import same_except_paths
from orchestrator.study.prepare import prepare_study
from search_spaces.domains.suggester import RandomSuggester

TINY = """\
space:
  base: tiny
  fix: {stages.0: attention}
  narrow:
    recipe.learning_rate: [2e-3, 5e-3]
data: {source: surrogate}
stop: {trials: 4}
engine: {name: in_process}
"""
BY_RUN = """\
def space(trial):
    kinds = [trial.suggest_categorical(f"layers.{i}", ["a", "b"]) for i in range(2)]
    return {"kinds": kinds, "rate": trial.suggest_float("rate", 0.0, 1.0)}

def train(decisions, context):
    for epoch in range(context.epochs):
        yield {"val_accuracy": decisions["rate"]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    return tmp_path


def written(text: str) -> str:
    Path("study.yaml").write_text(text)
    return "study.yaml"


def override(assignment: str) -> Override:
    return Override.parse(*assignment.split("=", 1), "--set")


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_plain_name_is_stored_as_before() -> None:
    config = StudyConfig.model_validate({"name": "a", "space": "tiny"})
    assert config.space == "tiny"
    assert '"space":"tiny"' in config.canonical_json()
    for without in ({"base": "tiny"}, {"base": "tiny", "fix": {}}):
        assert StudyConfig.model_validate({"name": "a", "space": without}) == config


def test_the_stored_form_is_canonical() -> None:
    def stored(space: dict[str, Any]) -> str:
        config = StudyConfig.model_validate({"name": "a", "space": space})
        assert StudyConfig.from_json(config.canonical_json()) == config
        return config.canonical_json()

    one = {"base": "tiny", "fix": {"b": 1, "a": None}, "remove": {"c": ["y", "x"]}}
    other = {"remove": {"c": ["x", "y"]}, "fix": {"a": None, "b": 1}, "base": "tiny", "narrow": {}}
    assert stored(one) == stored(other)
    assert '"space":{"base":"tiny","fix":{"a":null,"b":1},"remove":{"c":["x","y"]}}' in stored(one)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        ("space: {fix: {a: 1}}", "study.yaml:1: space.base: is missing; give a catalog name"),
        ("space: {base: tinny}", "study.yaml:1: space.base: there is no space 'tinny'."),
        ("space: {base: tiny, fixed: {a: 1}}", "study.yaml:1: space.fixed: unknown key. Allowed: "
         "base, fix, narrow, remove. Did you mean 'fix'?"),
        ("space: {base: tiny, narrow: {a: 1}}", "study.yaml:1: space.narrow.a: needs a list"),
        ("space: [tiny]", "study.yaml:1: space: needs text, not a list"),
        ("space: {base: mine.py:space}", "study.yaml:1: space.base: there is no file"),
    ],
)  # fmt: skip
def test_mistakes_of_the_section_are_located(folder: Path, edit: str, problem: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        load(written(edit + "\n"))
    assert str(caught.value).startswith(problem)


def test_edits_that_do_not_fit_are_refused_with_their_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(TINY.replace("learning_rate", "lerning_rate").replace("attention", "attend"))
    for command in ("space", "search"):
        more = ["--set", "space.remove.width=[1]"] if command == "search" else []
        assert main([command, config, *more]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if line.startswith("study.yaml:3: space.fix.stages.0: ")]
        assert [line for line in lines if "Did you mean 'recipe.learning_rate'?" in line]
        if more:
            assert lines[-1].startswith("--set: space.remove.width: ")
    assert not Path("mlruns").exists()


@pytest.mark.parametrize(
    "assignment",
    ["space.fix.stages.0=attention", "space.fix={stages.0: attention}",
     "space={base: tiny, fix: {stages.0: attention}}"],
)  # fmt: skip
def test_the_command_line_edits_a_space(assignment: str) -> None:
    config = load("tiny", [override(assignment)])
    assert config.space == SpaceConfig(base="tiny", fix={"stages.0": "attention"})


def test_the_command_line_adds_to_the_edits_of_a_file(folder: Path) -> None:
    changes = [
        override("space.fix.a.0.b=[1]"),
        override("space.narrow.recipe.learning_rate=[1, 2]"),
    ]
    with pytest.raises(ProblemsError, match=r"--set: space.fix.a.0.b: needs a number, text"):
        load(written(TINY), changes)
    config = load(written(TINY), changes[1:])
    assert isinstance(config.space, SpaceConfig)
    assert config.space.narrow == {"recipe.learning_rate": (1, 2)}
    assert config.space.fix == {"stages.0": "attention"}
    assert load(written(TINY), [override("space=tiny")]).space == "tiny"


def test_a_choice_may_be_null(folder: Path) -> None:
    config = load(written("space: {base: hybrid, fix: {recipe.weight_average: null}}\n"))
    assert config.space == SpaceConfig(base="hybrid", fix={"recipe.weight_average": None})
    assert prepare_study(config).space.version.startswith("1+")


def test_a_search_records_the_derived_space_and_resumes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(TINY)
    assert main(["search", config, "--trials", "2"]) == 0
    with Ledger.open(Path("mlruns/ledger.db")) as ledger:
        row = ledger.study("study")
        assert row is not None
        trials = ledger.trials(row.id)
    assert row.space_name == "tiny"
    assert re.fullmatch(r"1\+[0-9a-f]{8}", row.space_version)
    assert len(trials) == 2
    for trial in trials:
        assert trial.candidate["space"] == {"name": "tiny", "version": row.space_version}
        assert (
            trial.candidate["architecture"]["streams"]["image"]["stages"][0]["block"]["kind"]
            == "attention"
        )
        assert 2e-3 <= trial.candidate["recipe"]["learning_rate"] <= 5e-3
    capsys.readouterr()
    # The same edits in another order are the same study; others are refused.
    reordered = TINY.replace("  base: tiny\n", "").replace("data:", "  base: tiny\ndata:")
    assert main(["search", written(reordered), "--trials", "2"]) == 0
    assert main(["search", written(TINY), "--trials", "2", "--set", "space=tiny"]) == 2
    assert "space" in capsys.readouterr().err


def test_the_space_is_shown_with_its_base_and_edits(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(BY_RUN)
    config = written(
        "space: {base: mine.py:space, fix: {layers.*: b}, narrow: {rate: [0.2, 0.4]}}\n"
        "train: mine.py:train\nengine: {name: in_process}\nstop: {trials: 3}\n"
    )
    code, document = answer(capsys, "space", config)
    assert code == 0
    assert document["decisions"]["rate"] == "0.2 to 0.4"
    assert document["base"]["decisions"] == 3
    assert document["edits"] == {
        "base": f"{folder}/mine.py:space",
        "fix": {"layers.*": "b"},
        "narrow": {"rate": [0.2, 0.4]},
    }
    assert document["space"]["version"].startswith(document["base"]["version"] + "+")
    assert main(["space", config]) == 0
    assert "fix layers.*  'b'" in capsys.readouterr().out
    assert main(["search", config]) == 0
    assert main(["search", config]) == 0  # finished: nothing changed
    with Ledger.open(Path("mlruns/ledger.db")) as ledger:
        row = ledger.study("study")
        assert row is not None
        decided = [trial.candidate["decisions"] for trial in ledger.trials(row.id)]
    assert [each["kinds"] for each in decided] == [["b", "b"]] * 3
    assert all(0.2 <= each["rate"] <= 0.4 for each in decided)


def test_the_default_that_the_edits_change_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", written(TINY), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "edits of the space change its default: architecture." in shown.err + shown.out


def test_a_study_in_python_takes_edits(folder: Path) -> None:
    edited = {"base": "tiny", "fix": {"stages.0": "attention"}}
    for study in (
        create_study(name="a", space=edited, data={"source": "surrogate"}, home=folder / "h"),
        create_study("tiny", name="b", space={"fix": edited["fix"]}, home=folder / "h"),
        create_study(load("tiny"), name="c", space={"fix": edited["fix"]}, home=folder / "h"),
    ):
        assert study.config.space == SpaceConfig(**edited)


def test_the_example_of_the_documentation_works(folder: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "search_spaces.md").read_text("utf-8")
    section = page.split("## Fixed and narrowed decisions")[1]
    example = "\n".join(line[4:] for line in section.split("\n\n")[2].splitlines())
    space = prepare_study(load(written(example))).space
    assert space.name == "hybrid"
    for seed in range(5):
        candidate = space.resolve(RandomSuggester(seed))
        kinds = [stage.block.kind for stage in candidate.architecture.streams["image"].stages]
        assert kinds[0] == "residual"
        assert {*kinds} <= {"residual", "mbconv", "attention"}
        assert 1e-3 <= candidate.recipe.learning_rate <= 1e-2


def test_a_moved_project_keeps_its_edits() -> None:
    def at(folder: str, **edits: Any) -> StudyConfig:
        space = {"base": f"{folder}/mine.py:space", **edits}
        return StudyConfig.model_validate({"name": "a", "space": space})

    assert same_except_paths(at("/was", fix={"a": 1}), at("/now", fix={"a": 1}))
    assert not same_except_paths(at("/was", fix={"a": 1}), at("/now", fix={"a": 2}))
    assert not same_except_paths(at("/was", fix={"a": 1}), at("/now"))


def test_a_function_that_raises_is_reported_with_edits_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text("def space(trial):\n    return trial['x']\ntrain = space\n")
    config = written("space: {base: mine.py:space, fix: {x: 1}}\ntrain: mine.py:train\n")
    assert main(["search", config]) == 2
    assert "study: space: the space raised TypeError" in capsys.readouterr().err
