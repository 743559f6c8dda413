"""Whose things they are decides what is removed, and what is described in MLflow."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.stories import Seen, Story, project

from orchestrator.cli import main
from orchestrator.ledger import Ledger
from orchestrator.ownership import Owners
from orchestrator.tracking.addresses import VIEW_TAG
from orchestrator.tracking.client import open_client
from orchestrator.tracking.paths import artifact_folder

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore:.*noload.*")]

NOTE = "mlflow.note.content"


@pytest.fixture
def ask(story: Story, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The answer to a command on the story's home."""

    def run(*words: str) -> Any:
        capsys.readouterr()
        code = main([*words, "--json", "--home", str(story.home)])
        reported = capsys.readouterr()
        return {**json.loads(reported.out), "code": code, "said": reported.err}

    return run


def searched(story: Story) -> None:
    """A finished study with a log, whose home bears its mark."""
    story.whole(0.5)
    log = story.home / "logs" / "mine" / "1.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("trained\n")
    Owners(story.home / "ledgers").claim(story.ledger.identity, "mine")
    project(story)
    story.ledger.release(story.lease)


def files(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.endswith(("-wal", "-shm", ".projector"))}


def away(story: Story) -> None:
    """What a shell without ARCHSCOUT_LEDGER sees: the study's ledger is somewhere else."""
    story.ledger.close()
    elsewhere = story.home.parent / "team"
    elsewhere.mkdir()
    for path in story.home.glob("ledger.db*"):
        shutil.move(path, elsewhere)


def test_without_a_ledger_nothing_is_unreferenced(story: Story, ask: Callable[..., Any]) -> None:
    searched(story)
    away(story)
    before = files(story.home)
    answer = ask("clean", "--yes")
    assert answer["code"] == 3
    assert "set ARCHSCOUT_LEDGER as for their search" in answer["said"]
    assert ask("delete", "mine", "--yes")["code"] == 2
    assert files(story.home) == before
    assert len(Seen(story.tracking_uri).children) == 1


@pytest.mark.parametrize("marked", [True, False])
def test_files_of_another_ledger_in_the_home_are_kept(
    story: Story, ask: Callable[..., Any], marked: bool
) -> None:
    searched(story)
    if not marked:  # the home of a release before marks; its runs are marked by now
        shutil.rmtree(story.home / "ledgers")
    away(story)
    with Ledger.open(story.home / "ledger.db") as other:
        Owners(story.home / "ledgers").claim(other.identity, "another")
    before = {name for name in files(story.home) if "ledger" not in name}
    assert ask("clean", "--yes")["code"] == 0
    assert ask("delete", "mine", "--yes")["code"] == 2
    assert before <= files(story.home)
    assert len(Seen(story.tracking_uri).children) == 1


def test_a_name_that_two_ledgers_use_in_one_home_is_deleted_for_one(
    story: Story, ask: Callable[..., Any]
) -> None:
    searched(story)
    Owners(story.home / "ledgers").claim("0" * 32, "mine")
    theirs = story.home / "checkpoints" / "mine" / ("f" * 32) / "epoch-00001-aa"
    theirs.mkdir(parents=True)
    assert ask("delete", "mine", "--yes")["code"] == 0
    assert theirs.is_dir()
    assert (story.home / "logs" / "mine" / "1.log").exists()
    assert Owners(story.home / "ledgers").of("mine") == {"0" * 32}


def test_files_of_users_in_the_home_are_kept(
    story: Story, ask: Callable[..., Any], tmp_path: Path
) -> None:
    searched(story)
    theirs = tmp_path / "precious"
    places = [
        *(f"{kind}/theirs/{'1' * 32}/a.txt" for kind in ("checkpoints", "logs")),
        *(f"{kind}/mine/{name}" for kind in ("checkpoints", "logs") for name in ("a.txt", "b/c")),
        "logs/error-report.log",
    ]
    for path in (*(story.home / place for place in places), theirs / ("2" * 32) / "a.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs")
        os.utime(path, (0, 0))
    (story.home / "checkpoints" / "theirs" / "notes.md").write_text("theirs")
    for kind in ("checkpoints", "logs"):
        (story.home / kind / "empty").mkdir()
        (story.home / kind / "linked").symlink_to(theirs)
    seen = Seen(story.tracking_uri)
    nested = seen.client.create_run(
        seen.experiment.experiment_id, tags={"mlflow.parentRunId": seen.parent.info.run_id}
    )
    before = files(story.home)
    assert ask("clean", "--yes")["code"] == 0
    assert before <= files(story.home)
    assert ask("delete", "mine", "--yes")["code"] == 0
    assert all((story.home / place).exists() for place in places)
    assert not (story.home / "logs" / "mine" / "1.log").exists()
    assert (story.home / "logs" / "empty").is_dir()
    assert (story.home / "logs" / "linked").is_symlink()
    assert files(theirs) == {f"{'2' * 32}/a.txt"}
    left = seen.client.get_run(nested.info.run_id)
    assert left.info.lifecycle_stage == "active"


@pytest.mark.parametrize("place", ["checkpoints/mine", "artifacts/archscout"])
def test_behind_a_link_in_the_home_nothing_is_removed(
    story: Story, ask: Callable[..., Any], place: str
) -> None:
    searched(story)
    elsewhere = story.home.parent / "elsewhere"
    (story.home / place).parent.mkdir(exist_ok=True)
    if (story.home / place).exists():
        (story.home / place).rename(elsewhere)
    (elsewhere / ("3" * 32)).mkdir(parents=True)
    (elsewhere / ("3" * 32) / "a.txt").write_text("theirs")
    (story.home / place).symlink_to(elsewhere)
    before = files(elsewhere)
    for command in (["list"], ["clean", "--yes"], ["delete", "mine", "--yes"]):
        assert ask(*command)["code"] == 0
    assert files(elsewhere) == before
    assert (story.home / place).is_symlink()


def test_an_artifact_location_that_leads_out_of_the_home_is_left_alone(
    story: Story, ask: Callable[..., Any]
) -> None:
    precious = story.home.parent / "precious"
    (precious / "photos").mkdir(parents=True)
    (precious / "photos" / "a.txt").write_text("theirs")
    searched(story)
    out = f"file://{story.home}/artifacts/archscout/../../../precious"
    with closing(sqlite3.connect(story.home / "mlflow.db")) as store, store:
        store.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id <> 0", [out]
        )
        store.execute("UPDATE runs SET artifact_uri = ? || '/' || run_uuid || '/artifacts'", [out])
    for run in Seen(story.tracking_uri).children:
        inside = precious / run.info.run_id / "artifacts" / "x.txt"
        inside.parent.mkdir(parents=True)
        inside.write_text("ours, but who can say")
    before = files(precious)
    assert len(before) == 2
    assert ask("delete", "mine", "--yes")["code"] == 0
    assert files(precious) == before


def test_an_experiment_created_by_hand_keeps_its_location_and_description(
    story: Story, ask: Callable[..., Any], tmp_path: Path
) -> None:
    place = tmp_path / "by-hand"
    client = open_client(story.tracking_uri)
    made = client.create_experiment("archscout/mine", place.as_uri(), tags={NOTE: "# Rules"})
    searched(story)
    (place / "report.pdf").write_text("theirs")
    shown = client.get_experiment(made)
    assert shown.artifact_location == place.as_uri()
    assert shown.tags == {NOTE: "# Rules"}
    before = files(place)
    answer = ask("delete", "mine", "--yes")
    assert answer["code"] == 0
    assert files(place) == before
    assert client.get_experiment(made).tags == {NOTE: "# Rules"}


def test_a_description_by_a_user_is_kept(story: Story) -> None:
    story.whole(0.5)
    seen = project(story)
    assert seen.experiment.tags[NOTE].startswith("Study **mine**")
    story.whole(0.6)
    seen = project(story)
    assert "2 complete" in seen.experiment.tags[NOTE]
    seen.client.set_experiment_tag(seen.experiment.experiment_id, NOTE, "# Ours now")
    story.whole(0.7)
    assert project(story).experiment.tags[NOTE] == "# Ours now"


def test_of_two_studies_in_one_experiment_the_first_describes_it(
    tmp_path: Path, empty_store: Path
) -> None:
    reported = [
        Story(tmp_path / name, empty_store, name=name, tracking={"experiment": "vision/team a"})
        for name in ("first", "second")
    ]
    reported[1].tracking_uri = reported[0].tracking_uri
    client = open_client(reported[0].tracking_uri)
    tags = []
    for story in reported:
        story.whole(0.5)
        projection = story.projection()
        while projection.step():
            continue
        projection.summarize(plots=False)
        found = client.get_experiment_by_name("vision/team a")
        assert found is not None
        tags.append(dict(found.tags))
        story.ledger.close()
    assert tags[0] == tags[1]
    assert tags[0][NOTE].startswith("Study **first**")
    assert "first" in tags[0]["archscout.study"]
    assert VIEW_TAG in tags[0]


@pytest.mark.parametrize(
    "name",
    ["archscout/a", "vision/team a", "a/../../b", "команда", "/etc", "..", "%2e%2e/x", "~/x"],
)
def test_artifacts_of_any_experiment_are_inside_the_home(tmp_path: Path, name: str) -> None:
    folder = artifact_folder(tmp_path / "artifacts", name)
    assert (tmp_path / "artifacts").resolve() in folder.resolve().parents
    others = {artifact_folder(tmp_path / "artifacts", f"{name}{end}") for end in ("", " ", "b")}
    assert len(others) == 3
