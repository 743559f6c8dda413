"""Deleting and cleaning take what is unused, say it first, and leave what the registry needs."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.stories import Seen, Story, project

from orchestrator.cli import main
from orchestrator.ledger import Holder
from orchestrator.ledger.ledger import Ledger
from orchestrator.tracking.client import open_client
from workers.job import AttemptKey
from workers.measurement import CheckpointRef, Measurement

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore:.*noload.*")]


@pytest.fixture
def home(story: Story, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCHSCOUT_HOME", str(story.home))
    return story.home


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The answer to a command, and what went wrong."""

    def run(*words: str) -> Any:
        capsys.readouterr()
        code = main([*words, "--json"])
        printed = capsys.readouterr()
        return {**json.loads(printed.out), "code": code, "said": printed.err}

    return run


def keep(story: Story, uid: str, *names: str) -> list[Path]:
    """Checkpoints on disk, of 100 bytes each."""
    paths = [story.home / "checkpoints" / "mine" / uid / name for name in names]
    for path in paths:
        path.mkdir(parents=True)
        (path / "tensors.safetensors").write_bytes(b"x" * 100)
    return paths


def write_log(story: Story, number: int, study: str = "mine") -> Path:
    path = story.home / "logs" / study / f"{number}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("trained\n")
    return path


def searched(story: Story) -> str:
    """A finished study with all that it leaves, and its best trial."""
    story.whole(0.5)
    uid = complete(story, 0.9)
    write_log(story, 1)
    failed = story.add()
    story.start(failed)
    story.finish(failed, "FAIL", reason="user_code", failure={"kind": "user_code", "message": "m"})
    write_log(story, 2)
    project(story)
    story.ledger.release(story.lease)
    return uid


def register(story: Story, uid: str, alias: str | None = "champion") -> None:
    run = Seen(story.tracking_uri).child(uid)
    client = open_client(story.tracking_uri)
    client.create_registered_model("digits")
    source = f"{run.info.artifact_uri}/promotion/x"
    client.log_text(run.info.run_id, "weights", "promotion/x/model")
    client.create_model_version("digits", source=source, run_id=run.info.run_id)
    if alias:
        client.set_registered_model_alias("digits", alias, "1")


def complete(story: Story, value: float) -> str:
    """A complete trial with a checkpoint."""
    uid = story.add()
    story.start(uid)
    measure_with_checkpoint(story, story.keys[uid], 1)
    story.finish(uid, "COMPLETE", values=(value,))
    return uid


def files(folder: Path) -> set[str]:
    """All files but those that come and go with a database's connections."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.endswith(("-wal", "-shm", ".projector"))}


def test_delete_without_yes_only_lists_what_it_would_delete(
    story: Story, home: Path, ask: Callable[..., Any]
) -> None:
    searched(story)
    before = files(home)
    answer = ask("delete", "mine")
    assert answer["code"] == 0
    assert answer["deleted"] is False
    freed = {entry["what"]: (entry["number"], entry["files"]) for entry in answer["frees"]}
    assert freed["trials in the ledger"][0] == 3
    shown = [name for name in before if name.startswith("artifacts/")]
    assert freed["runs in MLflow"] == (4, len(shown))
    assert any(name.endswith("2.log") for name in shown)
    assert freed["checkpoints"] == (1, 1)
    assert freed["logs"] == (1, 2)
    assert answer["bytes"] >= 100
    assert files(home) == before
    assert len(story.trials()) == 3


def test_delete_removes_everything_and_frees_the_name(
    story: Story, home: Path, ask: Callable[..., Any]
) -> None:
    searched(story)
    assert ask("delete", "mine", "--yes")["code"] == 0
    assert story.ledger.study("mine") is None
    assert open_client(story.tracking_uri).get_experiment_by_name("archscout/mine") is None
    assert not [name for name in files(home) if "mine" in name]
    assert ask("delete", "mine", "--yes")["code"] == 2
    story.open()
    story._numbers = iter(range(9))  # type: ignore[assignment]
    story.whole(0.7)
    seen = project(story)
    assert len(seen.children) == 1


@pytest.mark.parametrize("alias", ["champion", None])
def test_runs_of_registered_models_are_not_deleted(
    story: Story, home: Path, ask: Callable[..., Any], alias: str | None
) -> None:
    register(story, searched(story), alias)
    before = files(home)
    answer = ask("delete", "mine", "--yes")
    assert answer["code"] == 3
    marked = " @champion" if alias else ""
    assert f"trial 1: version 1 of model 'digits'{marked}" in answer["said"]
    assert files(home) == before
    assert len(story.trials()) == 3
    open_client(story.tracking_uri).delete_model_version("digits", "1")
    assert ask("delete", "mine", "--yes")["code"] == 0


def test_a_running_study_is_neither_deleted_nor_cleaned(
    story: Story, home: Path, ask: Callable[..., Any]
) -> None:
    uid = story.whole(0.5)
    [stray] = keep(story, uid, ".epoch-00001-bb.tmp")
    for words in (["delete", "mine", "--yes"], ["clean", "mine", "--yes"]):
        answer = ask(*words)
        assert answer["code"] == 3
        assert f"process {os.getpid()}" in answer["said"]
    assert ask("clean", "--yes")["code"] == 0
    assert stray.exists()


def test_a_study_under_promotion_is_not_deleted(
    story: Story, home: Path, ask: Callable[..., Any]
) -> None:
    uid = searched(story)
    story.ledger.promotions.begin(
        "op", study_id=story.study.id, trial_uid=uid, model="digits", alias="champion",
        holder=Holder.of_this_process(),
    )  # fmt: skip
    before = files(home)
    answer = ask("delete", "mine", "--yes")
    assert answer["code"] == 3
    assert "has not ended" in answer["said"]
    assert files(home) == before
    assert len(Seen(story.tracking_uri).children) == 3


def test_an_interrupted_deletion_is_finished_by_the_same_command(
    story: Story, home: Path, ask: Callable[..., Any]
) -> None:
    searched(story)
    story.ledger.delete_study("mine", Holder.of_this_process())
    assert ask("delete", "mine", "--yes")["code"] == 0
    assert open_client(story.tracking_uri).get_experiment_by_name("archscout/mine") is None
    assert not (home / "checkpoints" / "mine").exists()
    assert ask("delete", "mine")["code"] == 2


@pytest.mark.parametrize("name", ["..", "../..", "../logs", ".", "/", "min*", "", "mine/"])
def test_a_path_is_not_a_name(story: Story, home: Path, ask: Callable[..., Any], name: str) -> None:
    keep(story, "a" * 32, "epoch-00001-aa")
    write_log(story, 0)
    story.ledger.release(story.lease)
    before = files(home)
    assert ask("delete", name, "--yes")["code"] == 2
    assert files(home) == before


def test_a_store_without_a_ledger_is_left_alone(
    story: Story, home: Path, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(story)
    before = files(home)
    monkeypatch.setenv("ARCHSCOUT_LEDGER", f"sqlite:///{home.parent / 'other.db'}")
    assert ask("clean", "--yes")["code"] == 3
    assert ask("delete", "mine", "--yes")["code"] == 2
    assert files(home) == before
    assert len(Seen(story.tracking_uri).children) == 3


def test_clean_deletes_unreferenced_files(
    story: Story, home: Path, ask: Callable[..., Any]
) -> None:
    best = searched(story)
    story.open()
    paused, stray = story.add(), "0" * 32
    story.start(paused)
    kept = [measure_with_checkpoint(story, story.keys[paused], epoch) for epoch in (1, 2, 3)]
    user = home / "checkpoints" / "mine" / paused / "theirs.pt"
    user.write_text("theirs")
    unfinished, orphan = keep(story, paused, ".epoch-00004-dd.tmp")[0], keep(story, stray, "x")[0]
    old, new = (home / "logs" / f"error-20260101-00000{n}-7.log" for n in (1, 2))
    old.write_text("a")
    new.write_text("b")
    os.utime(old, (time.time() - 30 * 86_400,) * 2)
    gone = write_log(story, 0, study="forgotten")
    story.ledger.release(story.lease)
    everything = files(home)

    answer = ask("clean")
    freed = {entry["what"]: entry["number"] for entry in answer["frees"]}
    assert freed == {
        "checkpoints beyond those kept": 3,
        "folders of deleted studies": 1,
        "runs of deleted studies": 0,
        "old logs of internal errors": 1,
    }
    assert files(home) == everything

    assert ask("clean", "mine", "--yes")["bytes"] == 300
    assert [path.exists() for path in (*kept, unfinished, orphan)] == [
        False, True, True, False, False,
    ]  # fmt: skip
    assert user.exists()
    assert gone.exists()
    assert ask("clean", "--yes")["code"] == 0
    assert [path.exists() for path in (gone.parent, old, new)] == [False, False, True]
    assert (home / "checkpoints" / "mine" / best / "epoch-00001-cc").exists()
    assert ask("clean")["bytes"] == 0


def test_clean_removes_runs_of_deleted_studies_except_those_of_model_versions(
    story: Story, home: Path, ask: Callable[..., Any]
) -> None:
    uid = searched(story)
    register(story, uid)
    story.ledger.delete_study("mine", Holder.of_this_process())
    assert ask("clean", "--yes")["code"] == 0
    left = Seen(story.tracking_uri)
    assert [run.data.tags["archscout.trial_uid"] for run in left.children] == [uid]
    assert left.parent.info.run_id == left.children[0].data.tags["mlflow.parentRunId"]
    assert "promotion/x/model" in " ".join(files(home))


def test_promoted_trials_keep_their_checkpoints(
    story: Story, home: Path, ask: Callable[..., Any]
) -> None:
    for place in range(11):
        complete(story, 0.5 + place / 100)
    [first, *_] = story.trials()
    story.ledger.promotions.begin(
        "op", study_id=story.study.id, trial_uid=first.uid, model="digits", alias="champion",
        holder=Holder.of_this_process(),
    )  # fmt: skip
    story.ledger.release(story.lease)
    assert ask("clean", "--yes")["bytes"] == 0
    story.ledger.promotions.advance("op", Holder.of_this_process(), "refused")
    assert (home / "checkpoints" / "mine" / first.uid).exists()


def measure_with_checkpoint(story: Story, key: AttemptKey, epoch: int) -> Path:
    [path] = keep(story, key.trial_uid, f"epoch-{epoch:05d}-cc")
    reference = CheckpointRef(path=str(path), manifest_sha256="a" * 64, bytes=100)
    seen = Measurement(
        fidelity=epoch, metrics={"val_accuracy": 0.1}, elapsed_s=1.0, checkpoint=reference
    )
    assert isinstance(story.ledger, Ledger)
    story.ledger.record(story.lease, key, seen)
    return path
