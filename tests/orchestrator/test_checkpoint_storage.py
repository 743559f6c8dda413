"""Checkpoints in a store: refused before anything is done, resumed from, promoted from, freed."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.store import Store, serving
from support.studies import a_trial, config, opened
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.ledger import Ledger
from orchestrator.objective import Objective
from orchestrator.study.retention import Retention
from orchestrator.trial import TrialState
from search_spaces.catalog import load as load_space
from workers import checkpoint
from workers.data import Dataset, load
from workers.job import TrainingJob
from workers.measurement import Measurement
from workers.run_job import run_job
from workers.storage import RemoteFolder

SMALL = config(
    space="tiny",
    train=None,
    data={"source": "digits", "limit": 120},
    budget={"minimum": 3, "maximum": 3, "reduction_factor": 3},
    stop={"trials": 1},
)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with serving() as made:
        yield made


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], int]:
    """A search of trials that keep nothing, with checkpoints at a place."""
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    monkeypatch.chdir(tmp_path)

    def run(place: str) -> int:
        monkeypatch.setenv("ARCHSCOUT_CHECKPOINTS", place)
        return main(["search", "surrogate", "--engine", "in_process", "--trials", "1", "--quiet"])

    return run


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("nowhere://x/y", "Protocol not known: nowhere"),
        ("s3://bucket/x", "Install s3fs to access S3"),
        ("s3://key:secret@bucket/x", "contains a login"),
        ("simplecache::memory://x", "a chain of stores"),
        ("webhdfs://127.0.0.1:1/x", "refused"),
        ("a-file/x", "a-file is a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_made(
    search: Callable[[str], int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    place: str,
    reason: str,
) -> None:
    (tmp_path / "a-file").touch()
    assert search(place) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert "ARCHSCOUT_CHECKPOINTS" in said
    assert "secret" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_a_store_that_takes_no_files_is_refused(
    search: Callable[[str], int], capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    store.fails = True
    try:
        assert search(store.url) == 2
    finally:
        store.fails = False
    assert "checkpoints cannot go to webhdfs://" in capsys.readouterr().err
    assert search(store.url) == 0
    assert not store.files  # what was tried is taken away again


class Watched:
    """A worker that notes the epochs it trains, and has the study paused after some."""

    def __init__(self, pause_after: int) -> None:
        self.epochs: list[int] = []
        self.study: Any = None
        self._pause_after = pause_after

    def __call__(self, job: TrainingJob, dataset: Dataset) -> Iterator[Any]:
        for seen in run_job(job, dataset):
            if isinstance(seen, Measurement):
                self.epochs.append(seen.fidelity)
                if seen.fidelity == self._pause_after:
                    self.study.request_stop("signal")
            yield seen


def test_a_trial_goes_on_from_a_store_and_its_last_checkpoint_is_there_to_promote(
    store: Store, tmp_path: Path
) -> None:
    dataset = load(SMALL.data)
    parts: dict[str, Any] = {
        "space": load_space("tiny"),
        "task": dataset.task,
        "checkpoints_dir": RemoteFolder(store.url),
    }
    trained = []
    for pause_after in (1, 0):
        worker = Watched(pause_after)
        with opened(tmp_path, SMALL, **parts) as study:
            worker.study = study
            InProcessEngine(worker).run(study, dataset)
            [trial] = study.trials
        trained.append(worker.epochs)
    assert trained == [[1], [2, 3]]
    assert trial.state is TrialState.COMPLETE
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        references = ledger.checkpoints(trial.uid)
    folder = RemoteFolder(store.url) / "small" / trial.uid
    assert checkpoint.load(references[0], folder).epoch == 3
    # The two newest, three files each: older ones were freed.
    assert len(store.beneath("/data/checkpoints/small")) == 6
    assert not (tmp_path / "checkpoints").exists()
    folder.remove(RemoteFolder(store.url))


def test_ended_trials_that_are_not_among_the_best_are_freed_without_waiting(store: Store) -> None:
    folder = RemoteFolder(store.url) / "study"
    failed = a_trial(1, state=TrialState.FAIL)
    waiting = a_trial(2, state=TrialState.WAITING)
    for trial in (failed, waiting):
        (folder / trial.uid).write("tensors", b"1")
    Retention(folder, [Objective(metric="val_accuracy", direction="maximize")]).sweep(
        [failed, waiting]
    )
    end = time.monotonic() + 5
    while len(store.files) > 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert list(store.files) == [f"/data/checkpoints/study/{waiting.uid}/tensors"]
    folder.remove(RemoteFolder(store.url))


@pytest.mark.mlflow
def test_clean_and_delete_free_what_lies_in_a_store(
    search: Callable[[str], int],
    store: Store,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert search(store.url) == 0
    with Ledger.open(tmp_path / "mlruns" / "ledger.db") as ledger:
        row = ledger.study("surrogate")
        assert row is not None
        [trial] = ledger.trials(row.id)
    study = RemoteFolder(store.url) / "surrogate"
    (study / trial.uid).write("model", b"0" * 10)
    (study / trial.uid / "epoch-00001-0a").write("model", b"0" * 20)
    # Another home may keep its checkpoints in the same store, of a study of the same name too.
    (study / "not-ours").write("model", b"0" * 30)
    (RemoteFolder(store.url) / "not-ours").write("model", b"0" * 40)
    theirs = [f"/data/checkpoints/{name}/model" for name in ("not-ours", "surrogate/not-ours")]
    assert main(["clean", "--yes", "--quiet"]) == 0
    assert sorted(store.files) == sorted(
        [*theirs, f"/data/checkpoints/surrogate/{trial.uid}/model"]
    )
    capsys.readouterr()
    assert main(["delete", "surrogate"]) == 0
    assert "checkpoints" in capsys.readouterr().out
    assert main(["delete", "surrogate", "--yes", "--quiet"]) == 0
    assert sorted(store.files) == theirs
