"""Measurements that a study cannot judge by or record: NaN, infinity, and missing objectives."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.studies import opened

from orchestrator.objective import Objective, main_objective
from orchestrator.snapshot import Verdict
from orchestrator.study.outcome import divergence, missing_objectives, split_finite
from workers.budget import Budget
from workers.measurement import Measurement


@given(
    metrics=st.dictionaries(st.sampled_from(["val_accuracy", "val_loss", "a", "b"]), st.floats()),
    objective=st.sampled_from(["val_accuracy", "a", "parameters"]),
)
def test_only_a_judged_metric_that_is_not_finite_ends_a_trial_and_the_others_are_left_out(
    metrics: dict[str, float], objective: str
) -> None:
    aim = Objective(metric=objective, direction="maximize")
    judged = [aim, main_objective([aim])]
    seen = Measurement(fidelity=1, metrics=metrics, elapsed_s=1.0)
    kept, left_out = split_finite(seen)
    assert {**kept.metrics, **left_out} == pytest.approx(metrics, nan_ok=True)
    assert all(map(math.isfinite, kept.metrics.values()))
    assert not any(map(math.isfinite, left_out.values()))
    failure = divergence(seen, judged)
    assert (failure is not None) == any(o.metric in left_out for o in judged)


def test_a_metric_that_is_not_finite_is_left_out_and_named_in_the_trials_log(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, logs_dir=tmp_path / "logs") as study:
        job = study.ask()
        assert job is not None
        metrics = {"val_accuracy": 0.5, "val_auc": math.nan, "perplexity": math.inf}
        seen = Measurement(fidelity=1, metrics=metrics, elapsed_s=1.0)
        assert study.report(job.key, seen) is Verdict.CONTINUE
        [recorded] = study.trials[0].measurements
        assert recorded.metrics == {"val_accuracy": 0.5}
    log = Path(job.log_path or "").read_text()
    assert "epoch 1: not recorded, no finite number: perplexity inf, val_auc nan" in log


@pytest.mark.parametrize(
    ("budget", "fidelity", "metrics", "advice"),
    [
        (
            Budget(minimum=1, maximum=4, reduction_factor=2),
            1,
            {"val_acc": 0.5, "val_loss": 1.0},
            "objective val_accuracy was not measured at epoch 1. Did you mean 'val_acc'? "
            "Trials are first judged at epoch 1: if it is measured later, set budget.minimum to "
            "that epoch. Measured: val_acc, val_loss",
        ),
        (
            Budget(minimum=2, maximum=9, reduction_factor=2),
            9,
            {"train_loss": 0.5},
            "objective val_accuracy was not measured at epoch 9. Trials are judged at epochs "
            "2, 4, 8, 9: choose a budget (minimum, maximum, reduction_factor) whose epochs all "
            "measure it. Measured: train_loss",
        ),
    ],
)
def test_a_missing_objective_is_told_with_the_name_or_the_epoch_that_is_meant(
    budget: Budget, fidelity: int, metrics: dict[str, float], advice: str
) -> None:
    seen = Measurement(fidelity=fidelity, metrics=metrics, elapsed_s=1.0)
    objectives = [Objective(metric="val_accuracy", direction="maximize")]
    failure = missing_objectives({}, seen, objectives, budget)
    assert failure is not None
    assert failure.message == advice
