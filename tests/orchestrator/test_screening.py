"""Candidates are counted before training; who cannot be trained meets no worker."""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.studies import Dying, Killed, a_trial, config, opened, story

from orchestrator.engines.in_process import InProcessEngine
from orchestrator.ledger import Ledger
from orchestrator.sampling.duplicates import digest_of
from orchestrator.sampling.mutation import architecture_decisions
from orchestrator.sampling.rejection import MIN_REJECTED, RejectionSampler, RejectionStats
from orchestrator.sampling.screening import Screening, screen
from orchestrator.snapshot import Verdict
from orchestrator.trial import TrialState
from search_spaces.blocks import ConvolutionStem, Residual, Stage
from search_spaces.candidate import Decisions
from search_spaces.catalog import load, parts
from search_spaces.domains import Const, Domain, FloatRange, IntRange, Record, Repeat
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.recipe import Recipe
from search_spaces.space import Constraint, SearchSpace
from search_spaces.task import Task
from workers.measurement import Measurement

TASK = Task(inputs={"image": (1, 8, 8)}, num_classes=10)
TINY = load("tiny")


def roomy(learning_rate: Domain[float]) -> SearchSpace:
    """Some 48,000 architectures that are sampled and compared quickly."""
    stage = Record(
        Stage,
        {
            "width": IntRange(8, 96, step=8),
            "depth": IntRange(1, 3),
            "block": Const(Residual()),
        },
    )
    return SearchSpace.of(
        name="roomy",
        version="1",
        architecture=parts.plain_classifier(Const(ConvolutionStem(width=8)), Repeat(stage, 2, 3)),
        recipe=Record(
            Recipe,
            {
                "optimizer": Const("adamw"),
                "learning_rate": learning_rate,
                "weight_decay": Const(1e-2),
            },
        ),
        losses=Const(TINY.default().losses),
    )


ROOMY = roomy(FloatRange(1e-3, 3e-2, log=True))
ARCHITECTURES_ALONE = roomy(Const(1e-2))


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
        sampler={"name": "tpe"},
    )
    with opened(tmp_path, asked, space=TINY, task=TASK) as study:
        InProcessEngine(trained).run(study, None)  # type: ignore[arg-type]
        infeasible = [t for t in study.trials if t.reason == "infeasible"]
        attempted = [t for t in study.trials if t.attempts]
        assert infeasible
        assert all(t.violations["parameters"] > 0 and not t.attempts for t in infeasible)
        assert all(t.cost["parameters"] <= bound for t in attempted)
        assert len(attempted) == study.snapshot().counted == 5
        assert study.snapshot().infeasible == len(infeasible)


def test_the_default_recipe_is_trial_0(tmp_path: Path) -> None:
    with opened(tmp_path, config(space="tiny", train=None), space=TINY, task=TASK) as study:
        job = study.ask()
        assert job is not None
        assert job.trial_number == 0
        assert job.candidate == TINY.default().to_dict()
        assert study.trials[0].params == TINY.encode(TINY.default())


class Ticking:
    """A clock on which each look takes a minute."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        self.seconds += 60.0
        return self.seconds


def by_lot(candidate: Any, task: Task, constraints: Any) -> Screening:
    """A cost sampled for each architecture, evenly from 0 to 1: neighbors are not alike."""
    text = json.dumps(candidate.to_dict()["architecture"], sort_keys=True)
    cost = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
    return Screening(
        cost={"parameters": cost},
        violations={c.metric: c.violation(cost) for c in constraints},
    )


@pytest.fixture
def lottery(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sampling.proposals", "sampling.rejection"):
        monkeypatch.setattr(f"orchestrator.{module}.screen", by_lot)


def tight(
    share: float, sampler: str = "random", space: SearchSpace = ROOMY, **changed: Any
) -> dict[str, Any]:
    """A study in which so many candidates are feasible, and its space."""
    strict = replace(space, constraints=(Constraint(metric="parameters", at_most=share),))
    asked = config(space="tiny", train=None, sampler={"name": sampler}, **changed)
    return {"asked": asked, "space": strict, "task": TASK}


@pytest.mark.usefixtures("lottery")
@pytest.mark.parametrize("space", [ROOMY, ARCHITECTURES_ALONE])
def test_constraints_that_nobody_meets_abort_the_search_and_a_resume_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: SearchSpace
) -> None:
    """Also where the nearest candidate is soon known: what is left to try is no duplicate."""
    monkeypatch.setattr("orchestrator.sampling.rejection.MIN_REJECTED", 400)
    for start in (1, 2):
        with opened(tmp_path, **tight(1e-9, space=space), clock=Ticking()) as study:
            before = len(study.trials)
            assert study.ask() is None
            assert study.abort_reason is not None
            assert "0 were feasible (0.00%); 'parameters' rejected" in study.abort_reason
            assert "Raise its at_most" in study.abort_reason
            assert before < len(study.trials) < 25 * start, "few of the refused ones are recorded"
            assert not any(trial.reason == "duplicate" for trial in study.trials)


def test_a_space_whose_networks_do_not_build_is_not_told_to_raise_a_bound() -> None:
    clock = Ticking()
    refusals = RejectionStats(clock)
    for _ in range(MIN_REJECTED):
        refusals.add(Screening(cost={}, violations={"builds": 1.0}))
    clock.seconds += 300.0
    assert refusals.abort_reason is not None
    assert "do not build on this data" in refusals.abort_reason
    assert "at_most" not in refusals.abort_reason


def test_time_alone_and_a_count_alone_abort_nothing() -> None:
    clock = Ticking()
    refusals, refused = (
        RejectionStats(clock),
        Screening(cost={}, violations={"parameters": 0.5}),
    )
    for _ in range(MIN_REJECTED):
        assert refusals.abort_reason is None
        refusals.add(refused)
    clock.seconds = 299.0
    assert refusals.abort_reason is None
    clock.seconds = 301.0
    assert refusals.abort_reason is not None
    refusals.add(Screening(cost={}, violations={"parameters": 0.0}))
    assert refusals.abort_reason is None
    assert (refusals.in_a_row, refusals.seconds) == (0, 0.0)


@pytest.mark.usefixtures("lottery")
@pytest.mark.parametrize(
    ("sampler", "share"), [("random", 0.05), ("nsga2", 0.02), ("random", 0.01)]
)
def test_a_small_feasible_share_is_searched_like_any_other(
    tmp_path: Path, sampler: str, share: float
) -> None:
    with opened(tmp_path, **tight(share, sampler, stop={"trials": 6})) as study:
        InProcessEngine(trained).run(study, None)  # type: ignore[arg-type]
        assert study.abort_reason is None
        assert study.snapshot().counted == 6
        assert study.snapshot().infeasible < 20 * 6, "few of the refused ones are recorded"
        assert len({t.digest for t in study.trials if t.attempts}) == 6
        networks = {t.cost["parameters"] for t in study.trials if t.attempts}
        assert len(networks) >= 5, "networks differ, not their recipes alone"


@pytest.mark.parametrize(
    ("space", "repeat", "again"),
    [(ROOMY, True, True), (ROOMY, False, False), (ARCHITECTURES_ALONE, True, False)],
)
def test_the_one_feasible_network_is_trained_by_another_recipe_or_not_again(
    monkeypatch: pytest.MonkeyPatch, space: SearchSpace, *, repeat: bool, again: bool
) -> None:
    default = space.default()

    def only_default(candidate: Any, *_: Any) -> Screening:
        over = float(candidate.architecture != default.architecture)
        return Screening(cost={}, violations={"parameters": over})

    monkeypatch.setattr("orchestrator.sampling.rejection.screen", only_default)
    params, digest = architecture_decisions(space.encode(default)), digest_of(default, TASK)
    known = [a_trial(0, params=params, violations={"parameters": 0.0})]
    rejection = RejectionSampler(space, TASK, (), RejectionStats(Ticking()))
    chosen = [
        rejection.architecture(known, seed, lambda c: digest_of(c, TASK) == digest, repeat=repeat)
        for seed in range(4)
    ]
    assert (params in chosen) is again


@pytest.mark.usefixtures("lottery")
def test_a_resume_finds_the_feasible_candidates_of_the_uninterrupted_search(tmp_path: Path) -> None:
    parts, found = tight(0.02, stop={"trials": 3}), []
    for kills in ((), (8, 14, 25)):  # before, at and after proposals that took rejections
        folder = tmp_path / str(len(kills))
        folder.mkdir()
        for after in kills:

            def mortal(ledger: Ledger, after: int = after) -> Dying:
                return Dying(ledger, after=after, acknowledged=True)

            with suppress(Killed), opened(folder, **parts, through=mortal) as study:
                InProcessEngine(trained).run(study, None)  # type: ignore[arg-type]
        with opened(folder, **parts) as study:
            InProcessEngine(trained).run(study, None)  # type: ignore[arg-type]
            found.append(story(study))
    assert found[0] == found[1]


@pytest.mark.usefixtures("lottery")
def test_a_small_space_is_tried_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SearchSpace, "size", lambda _: 30)
    with opened(tmp_path, **tight(0.05)) as study:
        InProcessEngine(trained).run(study, None)  # type: ignore[arg-type]
        assert study.abort_reason is None
        assert study.finished
        assert len(study.trials) == 30


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
        assert verdicts == [Verdict.CONTINUE, *[Verdict.PAUSE] * 3]
