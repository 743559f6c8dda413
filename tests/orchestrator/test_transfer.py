"""A study that starts from one on other data: what it uses of it, and that it reuses no result."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.studies import (
    BRANCHING,
    Dying,
    Killed,
    a_trial,
    config,
    opened,
    quality,
    run,
    story,
    train,
)

from orchestrator.cli import main
from orchestrator.ledger import Ledger
from orchestrator.objective import Objective
from orchestrator.sampling.auto_sampler import AutoSampler
from orchestrator.sampling.mutation import MutatingSuggester
from orchestrator.sampling.proposal_model import ProposalModel
from orchestrator.sampling.transfer.prior_mean import (
    FULL_PAIRS,
    MIN_PAIRS,
    Agreement,
    PriorMean,
    measure_agreement,
)
from orchestrator.sampling.transfer.report import transfer_report
from orchestrator.sampling.transfer.source_model import (
    MAX_DESIGNS,
    SourceModel,
    SourceStudy,
    first_of_each,
)
from orchestrator.sampling.warm_start import WarmStartError
from orchestrator.trial import REUSED, Trial, TrialState
from workers.budget import Budget
from workers.measurement import Measurement

ACCURACY = (Objective(metric="val_accuracy", direction="maximize"),)
BUDGET = Budget(minimum=1, maximum=9)
WHOLE: dict[str, Any] = {"pruner": {"name": "none"}}


def sampled(seed: int, count: int = 30, value: Any = quality, sign: float = 1.0) -> list[Trial]:
    """Complete trials of uniform candidates."""
    sampler = AutoSampler(space=BRANCHING, objectives=ACCURACY, budget=BUDGET, seed=seed)
    trials = []
    for number in range(count):
        suggestion = sampler.sample(number, 99)
        decisions = BRANCHING.function(suggestion.suggester)
        score = sign * value(dict(decisions or {}))
        trials.append(
            a_trial(
                number,
                uid=f"{seed:016x}{number:016x}",
                params=suggestion.params,
                distributions=suggestion.distributions,
                state=TrialState.COMPLETE,
                values=(score,),
                measurements=(
                    Measurement(fidelity=9, metrics={"val_accuracy": score}, elapsed_s=9.0),
                ),
            )
        )
    return trials


def source(trials: list[Trial], name: str = "first") -> SourceModel:
    return SourceModel(SourceStudy(name=name, budget=BUDGET, trials=trials), ACCURACY)


@given(correlation=st.floats(-1, 1), count=st.integers(0, 200), more=st.integers(1, 200))
def test_the_weight_follows_from_agreement_and_falls_with_results(
    correlation: float, count: int, more: int
) -> None:
    weight = Agreement(study="first", correlation=correlation, count=count).weight
    assert 0 <= weight <= max(0.0, correlation)
    if count < MIN_PAIRS or correlation <= 1 / math.sqrt(count - 1):
        assert weight == 0
    later = Agreement(study="first", correlation=0.9, count=2 * FULL_PAIRS + more).weight
    assert 0 < later < Agreement(study="first", correlation=0.9, count=2 * FULL_PAIRS).weight


def test_a_source_ranks_candidates_as_its_study_did_on_any_scale() -> None:
    known, asked = sampled(0), sampled(1)
    stretched = sampled(0, value=lambda decisions: math.exp(20 * quality(decisions)))
    params = [trial.params for trial in asked]
    predictions = source(known).predict(params)
    assert source(stretched).predict(params) == pytest.approx(predictions)
    scores = np.array([(trial.values or (0,))[0] for trial in asked])
    assert measure_agreement([source(known)], predictions, scores)[0].correlation > 0.8


def test_unknown_decisions_are_ignored_and_few_results_predict_nothing() -> None:
    known = sampled(0)
    params = dict(known[0].params)
    model = source(known)
    assert model.predict([params | {"new": 3, "more": "x"}]) == pytest.approx(
        model.predict([params])
    )
    assert np.isfinite(model.predict([{"kind": "unknown", "rate": 5.0}])).all()
    assert (source(known[:5]).predict([params]) == 0).all()


def test_designs_are_the_best_and_differ() -> None:
    known = sampled(0)
    best = max(known, key=lambda trial: trial.values or ())
    designs = source(known).designs
    assert designs[0] == best.params
    assert len({str(design) for design in designs}) == MAX_DESIGNS
    assert source([]).designs == []
    assert first_of_each([designs, [{"a": 1}]]) == [designs[0], {"a": 1}]


def merits(own: list[Trial], sources: list[SourceModel]) -> Any:
    sampler = AutoSampler(
        space=BRANCHING, objectives=ACCURACY, budget=BUDGET, seed=5, sources=sources
    )
    sampler.rebuild(own)
    model = ProposalModel(sampler._history, sampler._targets, 5, tuple, sources)
    samples = []
    for trial in sampled(7, 20):
        sample = MutatingSuggester(trial.params, (), None)  # type: ignore[arg-type] - not sampled
        BRANCHING.resolve(sample)
        samples.append(sample)
    scores = np.array([(trial.values or (0,))[0] for trial in sampled(7, 20)])
    return model.merit(samples), scores


def test_a_source_that_disagrees_changes_no_prediction() -> None:
    own = sampled(3, 10)
    without, _ = merits(own, [])
    reversed_, _ = merits(own, [source(sampled(0, sign=-1))])
    assert reversed_ == pytest.approx(without)


def test_a_source_that_agrees_ranks_candidates_after_few_results() -> None:
    own = sampled(3, MIN_PAIRS + 3)
    without, _ = merits(own, [])
    informed, scores = merits(own, [source(sampled(0))])
    assert np.ptp(without) == 0, "too few results of its own"
    assert np.corrcoef(informed, scores)[0, 1] > 0.5


def test_the_prior_mean_has_the_scale_of_the_results() -> None:
    predictions = np.linspace(-1, 1, 12)[:, None]
    perfect = [Agreement(study="first", correlation=1.0, count=12)]
    prior = PriorMean(perfect, predictions, 5 + 0.1 * predictions[:, 0])
    assert np.ptp(prior(predictions)) == pytest.approx(0.2 * perfect[0].weight)
    chance = [Agreement(study="first", correlation=0.1, count=12)]
    assert not PriorMean(chance, predictions, predictions[:, 0])(predictions).any()


def first(tmp_path: Path, **changed: Any) -> tuple[Trial, ...]:
    """The earlier study, on data of its own."""
    asked = config(name="first", **{"stop": {"trials": 12}, **WHOLE, **changed})
    with opened(tmp_path, asked, data="a") as study:
        run(study)
        return study.trials


def second(**changed: Any) -> Any:
    given = {"name": "second", "warm_start": ["first"], "seed": 1, "stop": {"trials": 16}}
    return config(**{**given, **WHOLE, **changed})


def test_its_best_designs_come_first_and_are_trained_again(tmp_path: Path) -> None:
    known = first(tmp_path)
    best = max(known, key=lambda trial: trial.values or ())
    with opened(tmp_path, second(), data="b") as study:
        run(study)
        assert dict(study.trials[0].params) == dict(best.params)
        assert all(t.reason != REUSED and t.attempts == 1 for t in study.trials)
        tried = [dict(t.params) for t in study.trials[:MAX_DESIGNS]]
        assert all(params in [dict(t.params) for t in known] for params in tried)
        assert not study._state._sampler._history.params[len(study.trials) :]


def test_an_earlier_version_with_another_budget_informs_as_well(tmp_path: Path) -> None:
    first(tmp_path, budget={"minimum": 1, "maximum": 3})
    with opened(tmp_path, second(), data="b", version="2") as study:
        assert [model.name for model in study._state._sampler._sources] == ["first"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"sampler": {"name": "tpe"}}, "another data set; only the sampler auto learns from it"),
        (
            {"objectives": [{"metric": "val_loss", "direction": "minimize"}]},
            "another list of objectives",
        ),
    ],
)
def test_what_cannot_inform_is_refused(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    first(tmp_path)
    with (
        pytest.raises(WarmStartError, match=reason),
        opened(tmp_path, second(**changed), data="b"),
    ):
        pass


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_killed_study_is_the_uninterrupted_one(tmp_path: Path, *, acknowledged: bool) -> None:
    growing = config(name="first", stop={"trials": 15}, **WHOLE)
    with opened(tmp_path, growing, data="a") as other:
        train(other, 12)
    with opened(tmp_path, second(name="whole"), data="b") as study:
        run(study)
        uninterrupted = story(study)

    def dying(ledger: Ledger) -> Any:
        return Dying(ledger, after=33, acknowledged=acknowledged)

    for attempt in range(30):
        through = dying if attempt < 3 else (lambda ledger: ledger)
        try:
            with opened(tmp_path, second(name="cut"), data="b", through=through) as study:
                run(study)
                break
        except Killed:
            with opened(tmp_path, growing, data="a") as other:
                if attempt == 0:
                    run(other)  # what the earlier study finds later does not count
    with opened(tmp_path, second(name="cut"), data="b") as study:
        assert story(study) == uninterrupted


@pytest.fixture
def warm_started(tmp_path: Path) -> Path:
    first(tmp_path)
    with opened(tmp_path, second(), data="b") as study:
        run(study)
    return tmp_path


def test_status_says_how_much_is_used(
    warm_started: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.open(warm_started / "ledger.db") as ledger:
        row = ledger.study("second")
        assert row is not None
        (found,) = transfer_report(ledger, row)
    assert found.count == 16
    assert found.correlation > 0.5, "both have the same optimum"
    said = f"warm start from first: rank agreement {found.correlation:.2f} over 16 trials, weight"
    for command in ("status", "leaderboard"):
        assert main(["--home", str(warm_started), command, "second"]) == 0
        assert said in capsys.readouterr().out
    assert main(["--home", str(warm_started), "status", "first"]) == 0
    assert "warm start" not in capsys.readouterr().out
