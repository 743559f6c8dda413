import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.confirmation.answer import answer
from orchestrator.confirmation.plan import IS_DEFAULT, KIND, MAX_SEEDS_KEY, SEED_INDEX
from orchestrator.figures.loss_weights import loss_weights
from orchestrator.figures.plot_data import short_names
from orchestrator.figures.study_plots import study_figures, study_plots
from orchestrator.objective import Objective
from orchestrator.trial import Trial, TrialState
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
PARAMETERS = Objective(metric="parameters", direction="minimize")
LOSS = Objective(metric="val_loss", direction="minimize")

DISTRIBUTIONS = {
    "a.width": {"name": "IntDistribution", "low": 1, "high": 64, "step": 1, "log": False},
    "a.rate": {"name": "FloatDistribution", "low": 1e-4, "high": 1.0, "step": None, "log": True},
    "a.kind": {"name": "CategoricalDistribution", "choices": ["conv", "attention"]},
}


def distribution(name: str) -> str:
    known = dict(DISTRIBUTIONS[name])
    return json.dumps({"name": known.pop("name"), "attributes": known})


def trial(number: int, *values: float, **changed: Any) -> Trial:
    given: dict[str, Any] = {
        "number": number,
        "uid": f"u{number}",
        "kind": "search",
        "parent": None,
        "params": {
            "a.width": number + 1,
            "a.rate": 10 ** -(number % 4),
            "a.kind": ["conv", "attention"][number % 2],
        },
        "distributions": {name: distribution(name) for name in DISTRIBUTIONS},
        "candidate": {},
        "digest": "d",
        "state": TrialState.COMPLETE if values else TrialState.PRUNED,
        "values": values or None,
        "seed": 0,
        "attempts": 1,
        "started": 0.0,
        "ended": 0.0,
        "measurements": (Measurement(fidelity=3, metrics={"val_accuracy": 0.375}, elapsed_s=1.0),),
        "cost": {"parameters": 1000.0 * (number + 1)},
    }
    return Trial(**{**given, **changed})


def test_one_objective_has_history_importance_parallel_coordinates_and_size() -> None:
    trials = [trial(index, 0.5 + index / 20) for index in range(6)]
    pages = study_plots([*trials, trial(6)], [ACCURACY], {"u0": "C8-T16"}, title="mine")
    assert sorted(pages) == ["history", "importance", "parallel", "size"]
    for page in pages.values():
        assert "mine: " in page
        assert len(page) > 3_000_000, "plotly itself must be inside: there may be no network"
    for name in ("history", "size"):
        assert "C8-T16" in pages[name]
    assert "stopped early" in pages["history"]
    assert "0.375" in pages["history"]


@pytest.mark.parametrize("count", [2, 3])
def test_several_objectives_have_a_pareto_front_and_no_size(count: int) -> None:
    objectives = [ACCURACY, PARAMETERS, LOSS][:count]
    values = [(0.5, 10.0, 1.0), (0.9, 90.0, 0.5), (0.4, 50.0, 2.0), (0.7, 40.0, 0.9)]
    trials = [trial(index, *value[:count]) for index, value in enumerate(values)]
    pages = study_plots(trials, objectives, {}, title="both")
    assert sorted(pages) == ["history", "importance", "parallel", "pareto"]
    assert "Pareto front" in pages["pareto"]
    assert "dominated" in pages["pareto"]


def confirmations(parent: Trial, first: int, *values: float, is_default: bool) -> list[Trial]:
    marks = [
        {SEED_INDEX: seed, MAX_SEEDS_KEY: 3, IS_DEFAULT: is_default} for seed in range(len(values))
    ]
    return [
        trial(first + seed, value, kind=KIND, parent=parent.uid, sampler_attrs=marks[seed])
        for seed, value in enumerate(values)
    ]


def test_a_confirmation_shows_each_candidates_gain_with_its_interval() -> None:
    default, best, other = trial(0, 0.8), trial(1, 0.95), trial(2, 0.9)
    trials = [
        default,
        best,
        other,
        *confirmations(default, 3, 0.80, 0.81, 0.79, is_default=True),
        *confirmations(best, 6, 0.90, 0.92, 0.89, is_default=False),
        *confirmations(other, 9, 0.81, 0.79, 0.80, is_default=False),
    ]
    found = answer("mine", trials, [ACCURACY])
    figure = study_figures(trials, [ACCURACY], {"u1": "C8-T16"}, title="mine")["confirmation"]
    assert found.winner == 1
    intervals = [trace for trace in figure.data if trace.error_x.array is not None]
    gains = {each.trial: each.gain for each in found.candidates if each.gain}
    assert len(intervals) == 2
    for trace, number in zip(intervals, (2, 1), strict=True):  # the best one on top
        assert trace.x[0] == pytest.approx(100 * gains[number].mean)
        half = 100 * (gains[number].high - gains[number].mean)
        assert trace.error_x.array[0] == pytest.approx(half)
    assert [label.count("the winner") for label in figure.layout.yaxis.ticktext] == [0, 1]
    assert "C8-T16" in figure.layout.yaxis.ticktext[1]
    assert figure.layout.title.subtitle.text == found.sentence
    single = [point for trace in figure.data if trace.error_x.array is None for point in trace.x]
    assert single == pytest.approx([1, -2, 1, 10, 11, 10])


def test_a_confirmation_without_a_comparison_has_no_figure() -> None:
    default, best = trial(0, 0.8), trial(1, 0.95)
    running = [
        *confirmations(default, 2, 0.8, 0.8, is_default=True),
        *confirmations(best, 4, 0.9, 0.9, is_default=False),
    ]
    alone = confirmations(best, 2, 0.9, 0.9, 0.9, is_default=False)
    for found in ([], running, alone):
        trials = [default, best, *found]
        assert "confirmation" not in study_figures(trials, [ACCURACY], {}, title="mine")


def test_pages_include_plotly_only_if_they_must_open_offline() -> None:
    trials = [trial(number, number / 40) for number in range(40)]
    offline = study_plots(trials, [ACCURACY], {}, title="mine")
    online = study_plots(trials, [ACCURACY], {}, title="mine", offline=False)
    assert set(online) == set(offline)
    for name, page in online.items():
        assert len(page) < 100_000
        assert len(offline[name]) > 4_000_000
        assert "window.Plotly||" in page
        assert 'src="http' not in offline[name]


def test_few_trials_give_few_figures() -> None:
    assert sorted(study_plots([], [ACCURACY], {}, title="empty")) == ["history"]
    pages = study_plots([trial(0, 0.5)], [ACCURACY], {}, title="one")
    assert sorted(pages) == ["history", "size"]


def test_equal_values_leave_out_importance_only() -> None:
    pages = study_plots(
        [trial(index, 0.5) for index in range(5)], [ACCURACY, LOSS][:1], {}, title="flat"
    )
    assert {"history", "size"} <= set(pages)


def test_paths_are_shortened_to_unique_suffixes() -> None:
    names = ["a.stages.0.width", "a.stages.1.width", "b.stages.1.width", "recipe.rate", "rate"]
    assert short_names(names) == {
        "a.stages.0.width": "stages.0.width",
        "a.stages.1.width": "a.stages.1.width",
        "b.stages.1.width": "b.stages.1.width",
        "recipe.rate": "recipe.rate",
        "rate": "rate",
    }


def weighted(number: int, value: float, **weights: float) -> Trial:
    terms = {name: {"weight": weight} for name, weight in weights.items()}
    losses = {"main": next(iter(weights)), "terms": terms, "balancer": "fixed"}
    return trial(number, value, candidate={"losses": losses})


def test_two_loss_terms_are_plotted_along_a_line() -> None:
    trials = [
        weighted(0, 0.7, cross_entropy=1, auxiliary=1),
        weighted(1, 0.8, cross_entropy=1, auxiliary=3),
        weighted(2, 0.6, cross_entropy=1),
    ]
    figure = loss_weights("mine", ACCURACY, trials, ["a", "b", "c"])
    assert figure is not None
    stopped, complete = figure.data
    assert list(complete.x) == pytest.approx([0.5, 0.75, 0.0])
    assert list(complete.y) == [0.7, 0.8, 0.6]
    assert complete.text[1] == "b<br>auxiliary 75%, cross_entropy 25%"
    assert not stopped.x


def test_pruned_trials_have_a_trace_of_their_own_and_balanced_weights_their_final_values() -> None:
    metrics = {"weights/cross_entropy": 0.2, "weights/auxiliary": 0.8, "val_accuracy": 0.4}
    measured = Measurement(fidelity=1, metrics=metrics, elapsed_s=1.0)
    balanced = weighted(1, 0.0, cross_entropy=1, auxiliary=1)
    trials = [
        weighted(0, 0.7, cross_entropy=1, auxiliary=1),
        replace(balanced, state=TrialState.PRUNED, values=None, measurements=(measured,)),
        replace(balanced, state=TrialState.PRUNED, values=None, measurements=()),
    ]
    figure = loss_weights("mine", ACCURACY, trials, ["a", "b", "c"])
    assert figure is not None
    stopped, complete = figure.data
    assert (list(complete.x), list(complete.y)) == ([0.5], [0.7])
    assert (list(stopped.x), list(stopped.y)) == ([0.8], [0.4])


def test_three_loss_terms_are_plotted_on_a_triangle_and_a_fourth_is_only_in_the_text() -> None:
    trials = [
        weighted(0, 0.7, cross_entropy=2, auxiliary=1, triplet=1),
        weighted(1, 0.8, cross_entropy=1, auxiliary=0, triplet=1, wave=2),
        weighted(2, 0.9, cross_entropy=1, auxiliary=1, triplet=2),
    ]
    figure = loss_weights("mine", LOSS, trials, ["a", "b", "c"])
    assert figure is not None
    _, points = figure.data
    corners = [axis["title"]["text"] for axis in figure.layout.ternary.to_plotly_json().values()]
    assert sorted(corners) == ["auxiliary", "cross_entropy", "triplet"]
    assert [a + b + c for a, b, c in zip(points.a, points.b, points.c, strict=True)] == [1, 1, 1]
    assert list(points.marker.color) == [0.7, 0.8, 0.9]
    assert points.marker.reversescale
    assert "wave 50%" in points.text[1]


def test_alternative_main_terms_share_a_corner() -> None:
    trials = [
        weighted(0, 0.7, cross_entropy=1, auxiliary=1),
        weighted(1, 0.8, focal=1, auxiliary=3),
    ]
    figure = loss_weights("mine", ACCURACY, trials, ["a", "b"])
    assert figure is not None
    _, complete = figure.data
    assert list(complete.x) == pytest.approx([0.5, 0.75])
    assert figure.layout.xaxis.title.text == "weight of auxiliary (the rest: main term)"


def test_no_figure_without_two_loss_terms() -> None:
    assert loss_weights("mine", ACCURACY, [trial(0, 0.5)], ["a"]) is None
    assert loss_weights("mine", ACCURACY, [weighted(0, 0.5, cross_entropy=1)], ["a"]) is None
    pages = study_plots([weighted(0, 0.5, mse=1, wave=1)], [ACCURACY], {}, title="mine")
    assert "weights of the loss terms" in pages["weights"]
