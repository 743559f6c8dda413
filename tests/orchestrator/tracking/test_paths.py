"""A project folder that was renamed or copied works on, and what it lost is named."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stories import Story, project
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from orchestrator.ledger import Ledger
from orchestrator.tracking.client import open_client
from orchestrator.tracking.paths import projection_lock, update_artifact_addresses
from workers import checkpoint
from workers.checkpoint import Checkpoint
from workers.measurement import Measurement
from workers.storage import LocalFolder

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore:.*noload.*")]

USER_CODE = """
def space(trial):
    return {"rate": trial.suggest_float("rate", 0.0, 1.0)}


def train(decisions, context):
    for epoch in range(context.epochs):
        yield {"val_accuracy": decisions["rate"]}
"""
STUDY = """
name: mine
space: mine.py:space
train: mine.py:train
data: {source: npz, path: photos.npz}
budget: {minimum: 1, maximum: 1}
stop: {trials: 1}
sampler: {name: random}
engine: {name: in_process}
resources: {cpu: 1, gpu: 0}
"""
MOVES: dict[str, Callable[[Path, Path], Any]] = {"renamed": Path.rename, "copied": shutil.copytree}


def addresses(home: Path) -> dict[str, list[str]]:
    """Every address of a file in MLflow's database."""
    columns = {
        "experiments": "artifact_location",
        "runs": "artifact_uri",
        "model_versions": "source",
    }
    with closing(sqlite3.connect(home / "mlflow.db")) as store:
        return {
            table: [row[0] for row in store.execute(f"SELECT {column} FROM {table}")]
            for table, column in columns.items()
        }


def completed(story: Story) -> str:
    """A complete trial with a real checkpoint, shown and registered; its uid."""
    uid = story.add(candidate={"schema": 1, "architecture": {}})
    story.start(uid)
    folder = story.home / "checkpoints" / "mine" / uid
    reference = checkpoint.save(LocalFolder(folder), Checkpoint(epoch=3, tensors={}, state={}))
    seen = Measurement(
        fidelity=3, metrics={"val_accuracy": 0.5}, elapsed_s=1.0, checkpoint=reference
    )
    story.ledger.record(story.lease, story.keys[uid], seen)
    story.finish(uid, "COMPLETE", values=(0.5,))
    run = project(story).child(uid)
    client = open_client(story.tracking_uri)
    client.log_text(run.info.run_id, "weights", "promotion/x/model")
    client.create_registered_model("digits")
    source = f"{run.info.artifact_uri}/promotion/x"
    client.create_model_version("digits", source=source, run_id=run.info.run_id)
    story.ledger.release(story.lease)
    story.ledger.close()
    return uid


@pytest.mark.parametrize("how", sorted(MOVES))
def test_files_of_a_moved_home_are_found(story: Story, tmp_path: Path, how: str) -> None:
    uid = completed(story)
    there = tmp_path / "an other" / "place"
    there.parent.mkdir()
    MOVES[how](story.home, there)
    before = addresses(story.home) if how == "copied" else None
    assert update_artifact_addresses(there) == 1
    assert update_artifact_addresses(there) == 0
    prefix = f"{(there / 'artifacts').as_uri()}/archscout/mine"
    assert all(
        address.startswith(prefix)
        for table, found in addresses(there).items()
        for address in found
        if table != "experiments" or "/artifacts/" in address
    )
    if before is not None:
        assert addresses(story.home) == before
    with Ledger.open(there / "ledger.db") as ledger:
        [reference] = ledger.checkpoints(uid)
    assert checkpoint.load(reference, LocalFolder(there / "checkpoints" / "mine" / uid)).epoch == 3
    client = open_client(f"sqlite:///{there}/mlflow.db")
    version = client.get_model_version("digits", "1")
    assert (Path(version.source.removeprefix("file://").replace("%20", " ")) / "model").exists()


def test_a_home_with_a_running_projection_is_left_alone(story: Story, tmp_path: Path) -> None:
    completed(story)
    there = story.home.rename(tmp_path / "there")
    before = addresses(there)
    with projection_lock(there, "mine"):
        assert update_artifact_addresses(there) == 0
    assert addresses(there) == before
    assert update_artifact_addresses(there) == 1


def test_locations_of_experiments_created_by_hand_are_kept(story: Story, tmp_path: Path) -> None:
    client = open_client(story.tracking_uri)
    place = (tmp_path / "by-hand" / "artifacts" / "theirs").as_uri()
    client.create_experiment("theirs", place)
    completed(story)
    there = story.home.rename(tmp_path / "there")
    assert update_artifact_addresses(there) == 1
    assert place in addresses(there)["experiments"]


def test_verify_names_missing_files(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    uid = completed(story)
    words = ["verify", "mine", "--json", "--home", str(story.home)]
    main(words)
    before = json.loads(capsys.readouterr().out)["differences"]
    assert [entry for entry in before if entry["what"] == "checkpoint"] == []
    [kept] = (story.home / "checkpoints" / "mine" / uid).iterdir()
    (kept / "tensors.safetensors").write_bytes(b"x")
    main(words)
    assert "another size" in capsys.readouterr().out
    shutil.rmtree(kept)
    assert main(words) == 3
    found = json.loads(capsys.readouterr().out)["differences"]
    [lost] = [entry for entry in found if entry["what"] == "checkpoint"]
    assert (lost["where"], lost["recorded"]) == ("trial 0", kept.name)
    assert str(kept) in lost["shown"]


def test_the_same_commands_continue_in_a_moved_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "mine.py").write_text(USER_CODE)
    (base / "study.yaml").write_text(STUDY)
    pixels = np.arange(40 * 64, dtype=np.uint8).reshape(40, 8, 8)
    np.savez(base / "photos.npz", x=pixels, y=np.arange(40) % 2)

    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())

    def run(folder: Path, *words: str) -> int:
        return main(["--home", str(folder / "mlruns"), *words])

    assert run(base, "search", str(base / "study.yaml")) == 0
    moved = base.rename(tmp_path / "moved")
    assert run(moved, "search", str(moved / "study.yaml")) == 0
    for command in (["resume", "mine"], ["search", str(moved / "study.yaml")]):
        with closing(sqlite3.connect(moved / "mlruns" / "ledger.db")) as ledger, ledger:
            ledger.execute("UPDATE study SET state = 'interrupted'")
        assert run(moved, *command) == 0, capsys.readouterr().err
    (moved / "photos.npz").rename(moved / "elsewhere.npz")
    with closing(sqlite3.connect(moved / "mlruns" / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE study SET state = 'interrupted'")
    capsys.readouterr()
    assert run(moved, "resume", "mine") == 2
    assert "there are no data at" in capsys.readouterr().err
