"""The forecast's arithmetic on virtual numbers, and the pace on virtual machines."""

from dataclasses import replace

import pytest

from orchestrator.confirmation.plan import ConfirmationPlan
from orchestrator.preflight.forecast import Plan, StudyForecast, forecast
from orchestrator.preflight.timing import Load, Timed, fit_pace
from workers.budget import Budget

EVEN = Plan(
    epochs_s=(2.0,),
    first_s=2.0,
    budget=Budget(maximum=9, minimum=1, reduction_factor=3),
    per_cost=False,
    halving=False,
    slots=2,
    trials=10,
    hours=None,
    error=0.0,
    timed=5,
    start_s=7.0,
    trial_s=1.0,
)


def seconds(found: StudyForecast) -> tuple[float, float, float]:
    return (found.seconds.low, found.seconds.median, found.seconds.high)


def test_without_luck_it_is_plain_arithmetic() -> None:
    # Five rounds of two trials at a time, each of 9 epochs of 2 s and a second of its own.
    assert seconds(forecast(EVEN, 0)) == (7 + 5 * 19,) * 3


def test_an_odd_trial_out_waits_for_a_round_of_its_own() -> None:
    assert seconds(forecast(replace(EVEN, trials=11), 0)) == (7 + 6 * 19,) * 3


def test_the_default_trains_as_long_as_it_takes() -> None:
    slow = replace(EVEN, first_s=100.0, slots=1, trials=2)

    assert seconds(forecast(slow, 0)) == (7 + 901 + 19,) * 3


def test_a_sampler_that_ranks_by_cost_proposes_cheap_candidates() -> None:
    uneven = replace(EVEN, epochs_s=(1.0, 4.0), slots=1, trials=101, trial_s=0.0, start_s=0.0)
    plain, per_cost = (forecast(replace(uneven, per_cost=each), 0) for each in (False, True))
    # A half of the proposals is cheap, or four fifths: 2.5 s or 1.6 s an epoch on average.
    assert plain.seconds.median == pytest.approx(18 + 100 * 9 * 2.5, rel=0.05)
    assert per_cost.seconds.median == pytest.approx(18 + 100 * 9 * 1.6, rel=0.05)


def test_halving_stops_most_trials_at_the_first_rung() -> None:
    halved = forecast(replace(EVEN, halving=True, slots=1, trials=90, trial_s=0, start_s=0), 0)

    # 90 trials reach epoch 1; about a third goes on to 3, a third of those to 9, and the first few
    # at each rung go on because there is no other to compare with.
    least, most = 2 * (90 + 30 * 2), 2 * (90 + 40 * 2 + 20 * 6)
    assert least < halved.seconds.median < most
    assert halved.seconds.low < halved.seconds.high


def test_the_hours_end_a_study_that_would_take_longer() -> None:
    found = forecast(replace(EVEN, trials=1000, hours=100 / 3600), 0)

    assert found.hours_decide
    assert seconds(found) == pytest.approx((100, 100, 100))
    assert found.trials.median == 10  # five rounds of two start before second 100


def test_the_confirmation_trains_the_default_and_the_best_complete_trials_in_full() -> None:
    three_seeds = ConfirmationPlan(top=3, seeds=3)
    found = forecast(replace(EVEN, confirmation=three_seeds), 0)
    assert seconds(found) == (7 + 5 * 19 + 6 * 19,) * 3
    slow_default = replace(EVEN, confirmation=three_seeds, first_s=4.0, slots=1)
    assert seconds(forecast(slow_default, 0)) == (7 + 9 * 19 + 37 + 3 * (3 * 19 + 37),) * 3
    two_trials = replace(EVEN, confirmation=three_seeds, trials=2)
    assert seconds(forecast(two_trials, 0)) == (7 + 19 + 3 * 19,) * 3


def test_nothing_is_confirmed_where_only_the_default_completes() -> None:
    alone = replace(EVEN, confirmation=ConfirmationPlan(), trials=1)
    assert seconds(forecast(alone, 0)) == (7 + 19,) * 3


def test_a_race_ends_after_any_number_of_seeds() -> None:
    found = forecast(replace(EVEN, confirmation=ConfirmationPlan(top=3, seeds=10)), 0)
    search_s = 7 + 5 * 19
    least, most = search_s + 6 * 19, search_s + 20 * 19
    assert least <= found.seconds.low < found.seconds.median < found.seconds.high <= most


def test_a_third_of_the_hours_at_most_is_kept_for_the_confirmation() -> None:
    short = replace(EVEN, trials=1000, hours=300 / 3600, confirmation=ConfirmationPlan())
    assert short.search_limit_s == 200
    few = ConfirmationPlan(top=1, seeds=3)
    assert replace(short, confirmation=few).search_limit_s == 300 - 3 * 19
    found = forecast(short, 0)
    assert found.hours_decide
    assert found.seconds.high == 300
    assert found.seconds.low > 200


def test_a_long_study_goes_on_as_its_beginning_went() -> None:
    found = forecast(replace(EVEN, trials=20_000), 0)

    assert found.seconds.median == pytest.approx(7 + 10_000 * 19)
    assert found.trials.median == 20_000


def test_hours_alone_say_how_many_trials_there_will_be() -> None:
    found = forecast(replace(EVEN, trials=None, hours=19 * 400 / 3600, start_s=0), 0)

    assert found.trials.median == pytest.approx(800)


def test_doubtful_times_widen_the_range_and_equal_seeds_agree() -> None:
    sure, doubtful = (forecast(replace(EVEN, error=error), 3) for error in (0.05, 0.5))

    assert doubtful.seconds.high / doubtful.seconds.low > sure.seconds.high / sure.seconds.low > 1
    assert forecast(replace(EVEN, error=0.5), 3) == doubtful


LOADS = [
    Load(flops=flops, activation_bytes=kept, layers=layers, batch_size=batch)
    for flops, kept, layers, batch in [
        (1e7, 2e5, 3, 64), (8e7, 6e5, 9, 32), (2e7, 3e5, 20, 128),
        (4e7, 8e5, 5, 32), (3e7, 2e5, 12, 64), (5e6, 1e5, 4, 128),
    ]
]  # fmt: skip


def machine(load: Load) -> Timed:
    """A machine whose pace is known."""
    took = 2e-10 * load.flops + 3e-9 * load.activation_bytes
    took += 1e-3 * load.layers / load.batch_size
    return Timed(load=load, example_s=took)


def test_the_pace_of_a_machine_that_keeps_to_the_formula_is_found() -> None:
    pace = fit_pace([machine(load) for load in LOADS])
    unseen = Load(flops=6e7, activation_bytes=5e5, layers=30, batch_size=16)

    assert pace.error == pytest.approx(0, abs=1e-6)
    assert pace.example_s(unseen) == pytest.approx(machine(unseen).example_s)


def test_no_term_takes_less_than_no_time() -> None:
    backwards = [Timed(load=load, example_s=1 / load.flops) for load in LOADS]

    assert min(fit_pace(backwards).weights) >= 0


def test_the_error_is_what_networks_left_out_show() -> None:
    noisy = [
        replace(machine(load), example_s=machine(load).example_s * factor)
        for load, factor in zip(LOADS, (1, 2, 1, 0.5, 1.5, 0.7), strict=True)
    ]

    error = fit_pace(noisy).error
    assert error is not None
    assert 0.1 < error < 3


def test_too_few_networks_tell_no_error() -> None:
    assert fit_pace([machine(LOADS[0])]).error is None
    assert fit_pace([machine(load) for load in LOADS[:2]]).error is None
