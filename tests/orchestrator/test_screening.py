"""Candidates are counted before training; who cannot be trained meets no worker."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import config, opened

from orchestrator.engines.in_process import InProcessEngine
from orchestrator.screening import screen
from orchestrator.snapshot import Verdict
from orchestrator.trial import TrialState
from search_spaces.candidate import Decisions
from search_spaces.catalog import load
from search_spaces.constraints import Constraint
from search_spaces.suggester import RandomSuggester
from search_spaces.task import Task
from workers.measurement import Measurement

TASK = Task(inputs={"image": (1, 8, 8)}, num_classes=10)
TINY = load("tiny")


def parameters(*seeds: int) -> list[float]:
    return [
        screen(TINY.resolve(RandomSuggester(seed)), TASK, ()).cost["parameters"] for seed in seeds
    ]


def trained(job: Any, dataset: Any) -> Any:
    yield from (
        Measurement(fidelity=epoch, metrics={"val_accuracy": 0.5}, elapsed_s=1.0)
        for epoch in range(1, job.budget.maximum + 1)
    )


def test_cost_is_counted_before_training() -> None:
    found = screen(TINY.default(), TASK, ())
    assert found.feasible
    assert set(found.cost) == {"parameters", "flops", "activation_bytes"}
    assert all(value > 0 for value in found.cost.values())


def test_a_cost_over_its_bound_is_a_violation_in_shares_of_the_bound() -> None:
    cost = screen(TINY.default(), TASK, ()).cost["parameters"]
    found = screen(TINY.default(), TASK, [Constraint(metric="parameters", at_most=cost / 2)])
    assert not found.feasible
    assert found.violations["parameters"] == pytest.approx(1.0)


def test_a_candidate_that_does_not_build_says_why() -> None:
    tiny_image = Task(inputs={"sound": (1, 8, 8)}, num_classes=10)
    found = screen(TINY.default(), tiny_image, ())
    assert not found.feasible
    assert found.violations == {"builds": 1.0}
    assert found.failure is not None
    assert found.failure.kind == "bad_candidate"


def test_plain_decisions_pass() -> None:
    assert screen(Decisions(decisions={"a": 1}), TASK, ()).feasible


def test_whoever_violates_a_constraint_meets_no_worker(tmp_path: Path) -> None:
    bound = sorted(parameters(*range(9)))[4]
    asked = config(
        space="tiny",
        train=None,
        constraints=[{"metric": "parameters", "at_most": bound}],
        stop={"trials": 5},
    )
    with opened(tmp_path, asked, space=TINY, task=TASK) as study:
        InProcessEngine(trained).run(study, None)  # type: ignore[arg-type]
        infeasible = [t for t in study.trials if t.reason == "infeasible"]
        attempted = [t for t in study.trials if t.attempts]
        assert infeasible
        assert all(t.violations["parameters"] > 0 and not t.attempts for t in infeasible)
        assert all(t.cost["parameters"] <= bound for t in attempted)
        assert len(attempted) == study.snapshot().counted == 5
        assert study.snapshot().screened == len(infeasible)


def test_the_default_recipe_is_trial_0(tmp_path: Path) -> None:
    with opened(tmp_path, config(space="tiny", train=None), space=TINY, task=TASK) as study:
        job = study.ask()
        assert job is not None
        assert job.trial_number == 0
        assert job.candidate == TINY.default().to_dict()
        assert study.trials[0].params == TINY.encode(TINY.default())


def test_constraints_that_nobody_meets_break_the_search_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.proposals.MOST_INFEASIBLE", 10)
    strict = replace(TINY, constraints=(Constraint(metric="parameters", at_most=1.0),))
    asked = config(space="tiny", train=None, sampler={"name": "random"})
    with opened(tmp_path, asked, space=strict, task=TASK) as study:
        assert study.ask() is None
        assert len(study.trials) == 10
        assert study.broken is not None
        assert "loosen them" in study.broken


def test_a_cost_is_an_objective_like_any_other(tmp_path: Path) -> None:
    asked = config(
        space="tiny",
        train=None,
        objectives=[
            {"metric": "val_accuracy", "direction": "maximize"},
            {"metric": "parameters", "direction": "minimize"},
        ],
        stop={"trials": 6},
    )
    with opened(tmp_path, asked, space=TINY, task=TASK) as study:
        InProcessEngine(trained).run(study, None)  # type: ignore[arg-type]
        first = study.trials[0]
        assert first.state is TrialState.COMPLETE
        assert first.values == (0.5, first.cost["parameters"])


def test_rungs_of_a_study_of_costs_are_judged_by_accuracy(tmp_path: Path) -> None:
    asked = config(
        space="tiny",
        train=None,
        objectives=[{"metric": "parameters", "direction": "minimize"}],
        stop={"trials": 4},
    )
    with opened(tmp_path, asked, space=TINY, task=TASK) as study:
        jobs = [study.ask() for _ in range(4)]
        verdicts = []
        for value, job in enumerate(jobs):
            assert job is not None
            seen = Measurement(
                fidelity=1, metrics={"val_accuracy": 1.0 - value / 10}, elapsed_s=1.0
            )
            verdicts.append(study.report(job.key, seen))
        assert verdicts == [Verdict.CONTINUE, Verdict.CONTINUE, Verdict.STOP, Verdict.STOP]
