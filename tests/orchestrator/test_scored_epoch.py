"""The epoch that gives a trial its values: the last one, or the best (`checkpoint: best`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.studies import a_trial, config, opened

from orchestrator.config.schema import StudyConfig
from orchestrator.objective import Objective, scored_measurement
from orchestrator.snapshot import Verdict
from orchestrator.study.leaderboard import leaderboard
from orchestrator.study.retention import bad_checkpoints, kept_checkpoints, unreferenced_files
from orchestrator.trial import Trial, TrialState
from workers.measurement import CheckpointRef, Measurement
from workers.storage import LocalFolder

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
LOSS = Objective(metric="val_loss", direction="minimize")
SIZE = Objective(metric="parameters", direction="minimize")


def reference(epoch: int) -> CheckpointRef:
    return CheckpointRef(path=f"x/epoch-{epoch:05d}-0a", manifest_sha256="0" * 64, bytes=epoch)


def measured(epoch: int, **metrics: float) -> Measurement:
    return Measurement(
        fidelity=epoch, metrics=metrics, elapsed_s=float(epoch), checkpoint=reference(epoch)
    )


def trained(accuracies: Sequence[float], **changed: Any) -> Trial:
    seen = [measured(epoch, val_accuracy=a) for epoch, a in enumerate(accuracies, start=1)]
    return a_trial(0, measurements=tuple(seen), cost={"parameters": 10.0}, **changed)


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=1, max_size=9))
def test_the_best_epoch_is_the_earliest_maximum(accuracies: list[float]) -> None:
    trial = trained(accuracies)
    best = scored_measurement(trial, [SIZE, ACCURACY], "best")
    last = scored_measurement(trial, [SIZE, ACCURACY], "last")
    assert best is not None
    assert best.fidelity == accuracies.index(max(accuracies)) + 1
    assert last == trial.measurements[-1]


def test_costs_alone_take_the_last_epoch_and_unmeasured_epochs_do_not_count() -> None:
    assert scored_measurement(a_trial(0), [ACCURACY], "best") is None
    last = scored_measurement(trained([0.9, 0.1]), [SIZE], "best")
    assert last is not None
    assert last.fidelity == 2
    seen = (measured(1, val_accuracy=0.9), measured(2, val_accuracy=0.5, val_loss=1.0))
    both = scored_measurement(a_trial(0, measurements=seen), [ACCURACY, LOSS], "best")
    assert both == seen[1]


@pytest.mark.parametrize(
    ("checkpoint", "values"), [("last", (0.5, 0.7)), ("best", (0.9, 0.8)), (None, (0.5, 0.7))]
)
def test_a_trials_values_are_all_of_one_epoch(
    tmp_path: Path, checkpoint: str | None, values: tuple[float, float]
) -> None:
    asked = config(
        budget={"minimum": 1, "maximum": 4, "reduction_factor": 3},
        stop={"trials": 1},
        objectives=[ACCURACY, LOSS],
        **({} if checkpoint is None else {"checkpoint": checkpoint}),
    )
    found = ((0.2, 0.9), (0.9, 0.8), (0.9, 0.6), (0.5, 0.7))
    with opened(tmp_path, asked) as study:
        job = study.ask()
        assert job is not None
        for epoch, (accuracy, loss) in enumerate(found, start=1):
            seen = measured(epoch, val_accuracy=accuracy, val_loss=loss)
            assert study.report(job.key, seen) is Verdict.CONTINUE
        study.tell(job.key)
        (trial,) = study.trials
        assert (trial.state, trial.values) == (TrialState.COMPLETE, values)
    board = leaderboard(asked, "finished", [trial])
    shown = board.to_dict()["trials"][0]
    assert shown["epochs"] == 4
    assert shown.get("best_epoch") == (2 if checkpoint == "best" else None)
    assert ("best epoch" in board.text()) == (checkpoint == "best")


def test_a_second_attempt_knows_the_best_epoch_of_the_first(tmp_path: Path) -> None:
    asked = config(checkpoint="best", stop={"trials": 1})
    with opened(tmp_path, asked) as study:
        job = study.ask()
        assert job is not None
        assert job.best_epoch is not None
        assert (job.best_epoch.metric, job.best_epoch.earlier) == ("val_accuracy", None)
        for epoch, accuracy in enumerate((0.3, 0.8, 0.4), start=1):
            study.report(job.key, measured(epoch, val_accuracy=accuracy))
    with opened(tmp_path, asked) as study:
        job = study.ask()
        assert job is not None
        assert job.resume_from[0] == reference(3)
        assert job.best_epoch is not None
        assert job.best_epoch.earlier == reference(2)


def test_the_best_epochs_checkpoint_is_kept_and_checked(tmp_path: Path) -> None:
    trial = trained([0.1, 0.9, 0.2, 0.3], state=TrialState.COMPLETE, values=(0.9,))
    assert kept_checkpoints(trial, [ACCURACY], "last") == [reference(3), reference(4)]
    assert kept_checkpoints(trial, [ACCURACY], "best") == [*map(reference, (2, 3, 4))]
    for epoch in range(1, 5):
        (tmp_path / trial.uid / Path(reference(epoch).path).name).mkdir(parents=True)
    unneeded = unreferenced_files(
        LocalFolder(tmp_path), [trial], [ACCURACY], checkpoint="best", needed=(), owned=True
    )
    assert [path.name for path in unneeded] == ["epoch-00001-0a"]
    (defect,) = bad_checkpoints([trial], [ACCURACY], "best", LocalFolder(tmp_path))
    assert defect[1] == "epoch-00002-0a"
    waiting = trained([0.1, 0.9, 0.2, 0.3], state=TrialState.WAITING)
    defects = bad_checkpoints([waiting], [ACCURACY], "best", LocalFolder(tmp_path))
    assert [name for _, name, _ in defects] == ["epoch-00002-0a", "epoch-00004-0a"]


def test_recorded_studies_keep_their_config() -> None:
    assert "checkpoint" not in config().canonical_json()
    best = config(checkpoint="best")
    assert StudyConfig.from_json(best.canonical_json()) == best
    assert StudyConfig.from_json(config().canonical_json()).checkpoint == "last"
    with pytest.raises(ValidationError, match="'last' or 'best'"):
        config(checkpoint="first")
