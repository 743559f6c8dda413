"""From a user's data to a running study in two commands."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support import pictures
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from orchestrator.config import starter, strict_yaml
from orchestrator.config.load import load
from orchestrator.config.starter import Machine, limits, quoted, study_name
from workers.data import load as load_data
from workers.data.dataset import split_data
from workers.data.inspection import Inspection, inspect
from workers.failures import DivergedError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    return tmp_path


@pytest.fixture
def found(tmp_path: Path) -> Inspection:
    images, targets = pictures.digits()
    np.savez(tmp_path / "own.npz", x=images, y=targets)
    return inspect(tmp_path / "own.npz")


def test_a_folder_of_images_becomes_a_search_that_finds_a_good_network(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not timed for real, as a search by five commands is: a busy machine takes fewer examples.
    monkeypatch.setattr("orchestrator.preflight.timing.example_s", lambda *_, **__: 1e-4)
    pictures.write_digits(here / "my digits", range(1000))
    (here / "my digits" / "readme.txt").write_text("digits")
    assert main(["init", "my digits"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "examples    1,000",
        "sizes       height 8, width 8",
        "prepared    gray, 8 x 8",
        "duplicates  none",
        "ignored     1: readme.txt",
        "Wrote study.yaml: all examples",
        "Next step:\n  archscout search study.yaml\n",
    ):
        assert part in shown
    config = load("study.yaml")
    assert (config.name, config.data.source) == ("my-digits", "folder")
    assert config.data.path == str(here / "my digits")
    words = shown.split("archscout ")[-1].split()
    assert config.confirm.plan is not None
    quick = ["--engine", "in_process", "--set", "space=tiny", "--trials", "2", "--json"]
    quick += ["--set", "confirm=null"]
    assert main([*words, *quick]) == 0
    best = json.loads(capsys.readouterr().out)["trials"][0]
    assert best["values"]["val_accuracy"] > 0.7


def test_json_contains_the_summary_and_the_next_command(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.preflight.timing.example_s", lambda *_, **__: 1e-4)
    images, targets = pictures.digits()
    np.savez(here / "own.npz", x=images[:300], y=np.where(targets[:300] == 0, 1, targets[:300]))
    (here / "studies").mkdir()
    assert main(["init", "own.npz", "--output", "studies/a.yaml", "--home", "x y", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["found"]["examples"] == {"train": 300}
    assert answer["found"]["shape"] == [1, 8, 8]
    assert sum(counts["train"] for counts in answer["found"]["classes"].values()) == 300
    assert answer["next"] == f"archscout --home '{here / 'x y'}' search studies/a.yaml"
    assert yaml.safe_load((here / "studies" / "a.yaml").read_text())["data"]["path"] == "../own.npz"


def test_a_study_file_named_like_a_preset_is_called_by_its_path(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.preflight.timing.example_s", lambda *_, **__: 1e-4)
    pictures.write_digits(here / "images", range(100))
    assert main(["init", "images", "--output", "digits"]) == 0
    assert "archscout search ./digits" in capsys.readouterr().out


def test_problems_of_the_data_are_printed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.preflight.timing.example_s", lambda *_, **__: 1e-4)
    images, targets = pictures.digits()
    chosen = np.concatenate([np.flatnonzero(targets == 0)[:100], np.flatnonzero(targets == 1)[:20]])
    x, y = images[chosen], targets[chosen]
    wrong = np.concatenate([y, [1]])
    x = np.concatenate([x, x[:1]])
    np.savez(here / "own.npz", x_train=x, y_train=wrong, x_test=x[5:9], y_test=y[5:9])
    assert main(["init", "own.npz"]) == 0
    shown = capsys.readouterr().out
    assert "duplicates  1 within train, 4 of test also in train" in shown
    notes = re.findall(r"note: (.*)", shown)
    assert [note.split(":")[0] for note in notes] == [
        "1 examples are duplicates; once split, some are in both the training and the validation "
        "split",
        "splits share examples, so that scores are too good",
        "1 examples equal one of another class",
        "the classes are imbalanced",
        "the test split has no example of class '1'",
    ]


def test_a_slow_machine_gets_fewer_examples_of_all_classes(found: Inspection) -> None:
    fast = limits(found, Machine(cores=2, gpu=False, example_s=1e-5))
    assert (fast.limit, fast.hours) == (None, 0.05)
    slow = limits(found, Machine(cores=2, gpu=False, example_s=8e-3))
    assert slow.limit == 590
    assert slow.full_s == pytest.approx(starter.FULL_TRAINING_S, rel=0.05)
    slowest = limits(found, Machine(cores=2, gpu=False, example_s=1.0))
    assert slowest.limit == 500
    assert slowest.hours * 3600 >= 60 * slowest.full_s / 2
    rare = np.where(np.arange(len(found.raw.pool)) < 4, 0, 1 + found.raw.pool.targets % 2)
    raw = replace(found.raw, pool=replace(found.raw.pool, targets=rare))
    counts = {str(label): {"train": int((rare == label).sum())} for label in range(3)}
    uneven = replace(found, raw=raw, classes=counts)
    held = limits(uneven, Machine(cores=2, gpu=False, example_s=1.0))
    dataset = split_data(raw, replace(found.spec, limit=held.limit))
    for part in (dataset.train, dataset.validation, dataset.open_test()):
        assert set(part.targets) == {0, 1, 2}


def test_the_written_study_says_all_that_was_decided(found: Inspection, tmp_path: Path) -> None:
    machine = Machine(cores=4, gpu=True, example_s=8e-3)
    held = limits(found, machine)
    (tmp_path / "study.yaml").write_text(starter.compose_yaml(found, "own.npz", machine, held))
    config = load(str(tmp_path / "study.yaml"))
    assert (config.data.limit, config.stop.hours) == (held.limit, held.hours)
    assert config.resources.gpu == 1
    assert load_data(config.data).class_names == tuple("0123456789")


@given(st.text(min_size=1, max_size=40).filter(str.isprintable))
def test_any_path_is_read_back_as_it_was_written(path: str) -> None:
    document = strict_yaml.parse(f"path: {quoted(path)}  # why\n".encode(), "study.yaml")
    assert (document.value, document.problems) == ({"path": path}, ())
    strict_yaml.parse(f"name: {quoted(study_name(Path(path)))}\n".encode(), "study.yaml")


def test_a_short_training_that_fails_is_a_note_and_the_study_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*_: object, **__: object) -> None:
        raise DivergedError("train_loss is nan")

    monkeypatch.setattr("orchestrator.preflight.timing.time_short_run", diverged)
    images, targets = pictures.digits()
    np.savez(here / "own.npz", x=images, y=targets)
    assert main(["init", "own.npz"]) == 0
    shown = capsys.readouterr().out
    assert (
        "the short training failed (DivergedError: train_loss is nan): the limits are guesses"
        in shown
    )
    assert load("study.yaml").stop.hours == 0.5


def test_ignored_files_are_named_before_a_search(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures.write_digits(here / "data", range(100))
    (here / "data" / "0" / "notes.txt").write_text("mine")
    (here / "s.yaml").write_text("space: tiny\ndata: {source: folder, path: data}\n")
    assert main(["search", "s.yaml", "--trials", "1", "--dry-run"]) == 0
    assert "note: 1 files ignored: '0/notes.txt'" in capsys.readouterr().out


def test_all_broken_files_are_in_the_document_and_in_a_file(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(here))
    root = pictures.write_digits(here / "data", range(100))
    files = sorted(root.rglob("*.png"))[:9]
    for file in files:
        file.write_bytes(b"<html>")
    assert main(["init", "data", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    named = {str(file.relative_to(root)): "a web page" for file in files}
    assert answer["files"] == named
    (listed,) = here.glob("archscout-files-*.txt")
    assert dict(line.split("\t") for line in listed.read_text().splitlines()) == named
    assert str(listed) in answer["errors"][0]
