"""Checkpoints that stay on disk: the best ten, and the whole Pareto front within its bytes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.studies import a_trial

from orchestrator.objective import Objective, pareto_front
from orchestrator.study import retention
from orchestrator.study.retention import MAX_KEPT, Retention, trials_to_keep
from orchestrator.trial import REUSED, Trial, TrialState
from workers.measurement import CheckpointRef, Measurement
from workers.storage import LocalFolder

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
SIZE = Objective(metric="parameters", direction="minimize")
BOTH = (ACCURACY, SIZE)

pairs = st.lists(st.tuples(*(st.integers(0, 30).map(float),) * 2), max_size=40)


def complete(number: int, *values: float, size: int = 1) -> Trial:
    saved = CheckpointRef(path=f"epoch-{number}", manifest_sha256="0" * 64, bytes=size)
    seen = Measurement(fidelity=1, metrics={}, elapsed_s=1.0, checkpoint=saved)
    state: dict[str, Any] = {"state": TrialState.COMPLETE, "values": values}
    return a_trial(number, measurements=(seen,), **state)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pairs)
def test_every_trial_of_the_front_keeps_its_checkpoint_as_trials_end(
    tmp_path: Path, found: list[tuple[float, float]]
) -> None:
    trials = [complete(number, *values) for number, values in enumerate(found)]
    for trial in trials:
        (tmp_path / trial.uid).mkdir(exist_ok=True)
    kept = Retention(LocalFolder(tmp_path), BOTH)
    for trial in trials:
        kept.update(trial)
    there = {trial.uid for trial in trials if (tmp_path / trial.uid).exists()}
    front = {trial.uid for trial in pareto_front(trials, BOTH)}
    assert front <= there
    assert len(there) <= max(MAX_KEPT, len(front))


@given(pairs)
def test_a_study_with_one_objective_keeps_its_ten_best(found: list[tuple[float, float]]) -> None:
    trials = [complete(number, first) for number, (first, _) in enumerate(found)]
    best = sorted(trials, key=lambda trial: (-(trial.values or (0,))[0], trial.number))
    assert [t.number for t in trials_to_keep(trials, [ACCURACY])] == [
        t.number for t in best[:MAX_KEPT]
    ]


def test_beyond_its_bytes_the_front_loses_its_most_crowded_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "MAX_FRONT_BYTES", 12)
    alone = [float(value) for value in range(11)]
    crowded = [20.0, 20.1, 20.2, 20.3]
    trials = [complete(number, x, x) for number, x in enumerate([*alone, *crowded, 40.0])]
    kept = {(trial.values or (0,))[0] for trial in trials_to_keep(trials, BOTH)}
    assert len(kept) == 12
    assert {0.0, 40.0} <= kept  # the best by each objective
    assert not {20.1, 20.2} & kept


@pytest.mark.parametrize("reason", [REUSED, "duplicate"])
def test_results_without_a_checkpoint_take_no_place(reason: str) -> None:
    copies = [replace(complete(n, 1.0), reason=reason) for n in range(MAX_KEPT)]
    own = [complete(MAX_KEPT + n, 0.5) for n in range(MAX_KEPT)]
    assert [*trials_to_keep([*copies, *own], [ACCURACY])] == own


def test_ten_of_the_front_stay_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MAX_FRONT_BYTES", 0)
    trials = [complete(number, float(number), float(number), size=2**40) for number in range(15)]
    assert len(trials_to_keep(trials, BOTH)) == MAX_KEPT
