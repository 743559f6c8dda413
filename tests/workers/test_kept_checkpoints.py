"""Checkpoints on disk: the two newest, and that of the best epoch."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.data import Dataset
from workers.job import BestEpoch, TrainingJob
from workers.measurement import CheckpointRef, Measurement
from workers.storage import LocalFolder
from workers.training.kept_checkpoints import KeptCheckpoints
from workers.training.trainer import Trainer

MakeJob = Callable[..., TrainingJob]
FIRST = BestEpoch(metric="train_loss", direction="maximize")
"""The loss falls, so the first epoch is the best one."""


def saved(folder: Path, epoch: int) -> CheckpointRef:
    (folder / f"epoch-{epoch}").mkdir()
    return CheckpointRef(path=str(folder / f"epoch-{epoch}"), manifest_sha256="0" * 64, bytes=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, float("nan")]), min_size=1, max_size=8))
def test_the_newest_two_and_the_earliest_best_stay(
    tmp_path_factory: pytest.TempPathFactory, scores: Sequence[float]
) -> None:
    folder = tmp_path_factory.mktemp("trial")
    kept = KeptCheckpoints(BestEpoch(metric="score", direction="maximize"))
    for epoch, score in enumerate(scores, start=1):
        kept.add(saved(folder, epoch), {"score": score})
        kept.remove_old(LocalFolder(folder))
    finite = [score for score in scores if math.isfinite(score)]
    expected = {len(scores), max(1, len(scores) - 1)}
    expected |= {scores.index(max(finite)) + 1} if finite else set()
    assert {int(path.name[6:]) for path in folder.iterdir()} == expected


def epochs(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.iterdir())


def test_a_training_keeps_its_best_epoch_over_attempts(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    def run(job: TrainingJob) -> list[Measurement]:
        return [seen for seen in Trainer(job, digits).run() if isinstance(seen, Measurement)]

    job = make_job(epochs=3, checkpoint_dir=str(tmp_path), best_epoch=FIRST)
    measured = run(job)
    assert epochs(tmp_path) == [1, 2, 3]
    first, *_, newest = [seen.checkpoint for seen in measured]
    assert first is not None
    assert newest is not None
    # The next attempt starts from the first epoch, its best one so far.
    again = make_job(
        epochs=5,
        checkpoint_dir=str(tmp_path),
        resume_from=(first,),
        best_epoch=replace(FIRST, earlier=first),
    )
    run(again)
    assert Path(first.path).is_dir()
    forgetful = replace(again, best_epoch=replace(FIRST, earlier=None))
    run(forgetful)
    assert not Path(first.path).exists()


def test_a_job_carries_its_best_epoch_across_processes(make_job: MakeJob) -> None:
    reference = CheckpointRef(path="epoch-1", manifest_sha256="0" * 64, bytes=1)
    for best in (None, FIRST, replace(FIRST, earlier=reference)):
        job = make_job(best_epoch=best)
        assert TrainingJob.from_dict(json.loads(json.dumps(job.to_dict()))) == job
