"""What Optuna is told, and that it draws the same from the same history."""

from typing import Any

import pytest
from optuna.trial import TrialState as Told
from studies import a_trial, slopes

from orchestrator.objective import Objective
from orchestrator.sampling import MAX_REDRAWS, Proposer, derive_seed
from orchestrator.trial import Trial, TrialState
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
SIZE = Objective(metric="parameters", direction="minimize")


def proposer(sampler: str = "tpe", *objectives: Objective, seed: int = 0) -> Proposer:
    return Proposer(sampler=sampler, objectives=objectives or (ACCURACY,), seed=seed)


def curve(*values: float) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=1.0)
        for epoch, value in enumerate(values, start=1)
    )


def drawn(source: Proposer, number: int, redraw: int = 0) -> dict[str, Any]:
    draw = source.draw(number, redraw)
    slopes(draw.suggester)
    source.drop(draw)
    return draw.params


def history(length: int, *, values: int = 1) -> list[Trial]:
    source, found = proposer("random"), []
    for number in range(length):
        draw = source.draw(number, 0)
        slopes(draw.suggester)
        source.drop(draw)
        found.append(
            a_trial(
                number,
                params=draw.params,
                distributions=draw.distributions,
                state=TrialState.COMPLETE,
                values=tuple(float(number % 7) for _ in range(values)),
                measurements=curve(number % 7),
            )
        )
    return found


def told(trial: Trial, *objectives: Objective) -> Any:
    source = proposer("tpe", *objectives)
    source.rebuild([trial])
    return source._study.trials[0]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "nsga3", "gp"])
def test_equal_histories_and_seeds_draw_alike(sampler: str) -> None:
    past = history(12)
    one, other = proposer(sampler), proposer(sampler)
    for source in (one, other):
        source.rebuild(past)
    drawn(other, 99)  # what was dropped before leaves no trace
    assert drawn(one, 12) == drawn(other, 12)


def test_redraws_and_numbers_and_seeds_draw_apart() -> None:
    draws = [
        drawn(proposer(), 0),
        drawn(proposer(), 1),
        drawn(proposer(), 0, 1),
        drawn(proposer(seed=1), 0),
    ]
    assert len({draw["rate"] for draw in draws}) == 4


def test_late_redraws_ignore_the_model() -> None:
    modelled, fresh = proposer(), proposer("random")
    modelled.rebuild(history(12))
    assert drawn(modelled, 12, MAX_REDRAWS) == drawn(fresh, 12, MAX_REDRAWS)


def test_a_complete_trial_is_told_with_its_value() -> None:
    seen = told(a_trial(0, state=TrialState.COMPLETE, values=(0.9,), measurements=curve(0.5, 0.9)))
    assert (seen.state, seen.values) == (Told.COMPLETE, [0.9])


def test_a_stopped_trial_is_told_with_the_steps_it_reported() -> None:
    seen = told(a_trial(0, state=TrialState.PRUNED, reason="rung", measurements=curve(0.5, 0.6)))
    assert (seen.state, seen.intermediate_values) == (Told.PRUNED, {1: 0.5, 2: 0.6})


@pytest.mark.parametrize(
    ("reason", "violations", "constraints"),
    [
        ("infeasible", {"parameters": 0.5}, {"parameters": 0.5}),
        ("diverged", {}, {"diverged": 1.0}),
    ],
)
def test_what_must_not_come_again_is_told_without_value_and_with_its_constraint(
    reason: str, violations: dict[str, float], constraints: dict[str, float]
) -> None:
    trial = a_trial(
        0, state=TrialState.PRUNED, reason=reason, violations=violations, measurements=curve(0.9)
    )
    seen = told(trial)
    assert (seen.state, seen.values, seen.intermediate_values) == (Told.PRUNED, None, {})
    assert seen.constraints == constraints


def test_with_several_objectives_no_steps_are_told() -> None:
    trial = a_trial(0, state=TrialState.PRUNED, reason="rung", measurements=curve(0.5))
    assert told(trial, ACCURACY, SIZE).intermediate_values == {}


@pytest.mark.parametrize("state", [TrialState.WAITING, TrialState.RUNNING])
def test_unfinished_trials_count_as_pending(state: TrialState) -> None:
    assert told(a_trial(0, state=state)).state == Told.RUNNING


def test_duplicates_are_not_told() -> None:
    source = proposer()
    source.rebuild([a_trial(0, state=TrialState.COMPLETE, values=(0.9,), reason="duplicate")])
    assert source._study.trials == []


def test_parameters_survive_the_rebuilding() -> None:
    past = history(3)
    source = proposer()
    source.rebuild(past)
    assert [t.params for t in source._study.trials] == [t.params for t in past]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "gp"])
def test_every_sampler_takes_several_objectives(sampler: str) -> None:
    source = proposer(sampler, ACCURACY, SIZE)
    source.rebuild(history(12, values=2))
    assert set(drawn(source, 12)) >= {"kind", "rate"}


def test_optuna_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    drawn(proposer(), 0)
    assert capfd.readouterr() == ("", "")


def test_seeds_depend_on_every_part() -> None:
    seeds = {derive_seed(0, 1), derive_seed(1, 0), derive_seed(0, "draw", 1), derive_seed(0, 11)}
    assert len(seeds) == 4
    assert derive_seed(0, 1) == derive_seed(0, 1)
    assert all(0 <= seed < 2**32 for seed in seeds)
