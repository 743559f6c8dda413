"""Audit of rungs, and the choice of the first rung, on curves in closed form."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from support.studies import a_trial, config, opened, run

from orchestrator.objective import Objective
from orchestrator.pruning.audit import audit_pruning
from orchestrator.pruning.promotions import AUDIT_EVERY, is_audited
from orchestrator.pruning.rank_correlation import rank_correlation
from orchestrator.pruning.rungs import first_rung
from orchestrator.study.leaderboard import leaderboard
from orchestrator.trial import Trial, TrialState
from search_spaces.space import DefineByRunSpace
from workers.budget import Budget
from workers.job import TrainingJob
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
EPOCHS = 9


def crossing(decisions: dict[str, Any]) -> list[float]:
    """Slow candidates are at chance after an epoch and end best; the default is in between."""
    quality = decisions["quality"]
    start = {"fast": 0.0, "default": 0.8, "slow": 1.2}[decisions["kind"]]
    ceiling = {"fast": 0.6, "default": 0.7, "slow": 0.8}[decisions["kind"]] + 0.1 * quality
    return [
        0.1 + (ceiling - 0.1) * (1 - math.exp(-1.5 * max(0, epoch - start)))
        for epoch in range(1, EPOCHS + 1)
    ]


def crossing_space(trial: Any) -> dict[str, Any]:
    kind = trial.suggest_categorical("kind", ["default", "fast", "slow"])
    return {"kind": kind, "quality": trial.suggest_float("quality", 0.0, 1.0)}


SPACE = DefineByRunSpace(name="crossing", version="1", function=crossing_space)


def train(job: TrainingJob, dataset: Any) -> Iterator[Measurement]:
    for epoch, value in enumerate(crossing(dict(job.candidate["decisions"])), start=1):
        yield Measurement(fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=float(epoch))


def searched(folder: Path, **changed: Any) -> tuple[Trial, ...]:
    first = [{"kind": "default", "quality": 0.5}]
    asked = config(
        **{"stop": {"trials": 25}, "sampler": {"name": "random"}, "seed_points": first, **changed}
    )
    with opened(folder, asked, space=SPACE) as study:
        run(study, train)
        return study.trials


def winner(trials: tuple[Trial, ...]) -> str:
    complete = [trial for trial in trials if trial.values]
    return str(max(complete, key=lambda t: t.values or ()).params["kind"])


def test_crossing_curves_need_the_rung_that_the_reference_shows(tmp_path: Path) -> None:
    naive = searched(
        tmp_path / "naive",
        budget={"minimum": 1, "maximum": EPOCHS},
        pruner={"name": "halving", "type": "stopping"},
        seed=2,  # none of its first 25 trials is audited
    )
    ours = searched(tmp_path / "ours", budget={"minimum": "auto", "maximum": EPOCHS}, seed=2)
    assert winner(naive) != "slow"
    assert winner(ours) == "slow"


def full(number: int, curve: list[float], **changed: Any) -> Trial:
    seen = tuple(
        Measurement(fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=1.0)
        for epoch, value in enumerate(curve, start=1)
    )
    parts = {"state": TrialState.COMPLETE, "values": (curve[-1],), "measurements": seen}
    return a_trial(number, **parts | changed)


def crossed(number: int) -> Trial:
    kind = "default" if number == 0 else ("fast", "slow")[number % 2]
    return full(number, crossing({"kind": kind, "quality": (number * 7 % 10) / 10}))


def test_the_audit_of_trials_that_all_trained_to_the_end_equals_the_truth() -> None:
    trials = [crossed(number) for number in range(31)]
    audit = audit_pruning(trials, Budget(minimum=1, maximum=EPOCHS), [ACCURACY], seed=0, every=1)
    assert audit is not None
    ends = [trial.measurements[-1].metrics["val_accuracy"] for trial in trials]
    for rung, correlation in audit.correlations:
        early = [trial.measurements[rung - 1].metrics["val_accuracy"] for trial in trials]
        assert correlation == pytest.approx(spearmanr(early, ends).statistic)
    # The rung at epoch 1 promotes fast trials, and the best slow one is the price.
    assert audit.best_audited == pytest.approx(max(ends))
    promoted = [end for trial, end in zip(trials, ends, strict=True) if trial.number % 2 == 0]
    assert audit.lost == pytest.approx(max(ends) - max(promoted))
    assert dict(audit.correlations)[1] < 0 < dict(audit.correlations)[3]  # type: ignore[operator]
    third = sorted(ends, reverse=True)[len(ends) // 3 - 1]
    assert audit.in_best_third == sum(end >= third for end in ends)


def test_an_audit_of_one_in_twenty_estimates_the_whole_correlation() -> None:
    trials = [crossed(number) for number in range(2_000)]
    pruned = [
        trial
        if trial.number == 0 or is_audited(0, trial.number)
        else full(
            trial.number,
            [m.metrics["val_accuracy"] for m in trial.measurements[:1]],
            state=TrialState.PRUNED,
            reason="rung",
            values=None,
        )
        for trial in trials
    ]
    budget = Budget(minimum=1, maximum=EPOCHS)
    whole = audit_pruning(trials, budget, [ACCURACY], seed=0, every=1)
    sample = audit_pruning(pruned, budget, [ACCURACY], seed=0)
    assert whole is not None
    assert sample is not None
    estimate, truth = dict(sample.correlations)[1], dict(whole.correlations)[1]
    assert estimate == pytest.approx(truth, abs=0.15)
    assert 60 <= sample.audited <= 2_000 / AUDIT_EVERY
    assert sample.pruned == sum(trial.reason == "rung" for trial in pruned)


def test_the_leaderboard_shows_the_audit() -> None:
    asked = config(budget={"minimum": 1, "maximum": EPOCHS})
    trials = [crossed(number) for number in range(100) if number == 0 or is_audited(0, number)]
    board = leaderboard(asked, "finished", trials)
    assert board.audit is not None
    assert board.audit.text() in board.text()
    assert board.to_dict()["audit"]["rank_correlation"].keys() == {"1", "3"}


def test_a_study_whose_rungs_pruned_nothing_has_no_audit() -> None:
    assert audit_pruning([crossed(0)], Budget(maximum=EPOCHS), [ACCURACY], seed=0) is None


@given(st.integers(0, 50), st.integers(2, 30))
def test_one_of_each_block_is_audited_and_never_the_reference(seed: int, every: int) -> None:
    for block in range(1, 5):
        numbers = range(block * every, (block + 1) * every)
        assert sum(is_audited(seed, number, every) for number in numbers) == 1
    assert not is_audited(seed, 0, every)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4)), max_size=12))
def test_a_weight_counts_a_pair_several_times(rows: list[tuple[int, int, int]]) -> None:
    weighted = rank_correlation(
        [float(x) for x, _, _ in rows], [float(y) for _, y, _ in rows], [float(w) for *_, w in rows]
    )
    repeated = [(float(x), float(y)) for x, y, w in rows for _ in range(w)]
    plain = rank_correlation([x for x, _ in repeated], [y for _, y in repeated])
    assert weighted == plain or weighted == pytest.approx(plain)


def curve_of(*values: float, warmup: float = 0.0) -> Trial:
    return full(0, list(values), params={"recipe.warmup": warmup})


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (None, 3),
        (curve_of(0.1, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), 2),
        (curve_of(0.1, 0.2, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), 3),
        (curve_of(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9), 3),
        (curve_of(0.1, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, warmup=0.2), 2),
        (curve_of(0.1, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, warmup=0.25), 3),
        (curve_of(0.1, 0.6, 0.8), 1),  # its gain is unknown while it trains
        (curve_of(0.1, 0.6, 0.8, warmup=0.2), 2),
        (curve_of(0.1, warmup=0.2), 3),
    ],
)
def test_the_first_rung_follows_the_reference(reference: Trial | None, expected: int) -> None:
    assert first_rung(Budget(maximum=9), ACCURACY, reference) == expected


def test_a_given_minimum_is_kept() -> None:
    assert first_rung(Budget(minimum=1, maximum=9), ACCURACY, curve_of(*[0.1] * 9)) == 1


def test_enough_audited_trials_decide_by_rank_correlation() -> None:
    reference = curve_of(0.1, 0.2, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9)
    ranked = [full(n, [0.1, n / 10, n / 10, *[n / 10] * 6]) for n in range(1, 9)]
    assert first_rung(Budget(maximum=9), ACCURACY, reference, ranked) == 2
    assert first_rung(Budget(maximum=9), ACCURACY, reference, ranked[1:]) == 3
    reversed_ = [full(n, [0.1, 0.9 - n / 10, 0.9, *[n / 10] * 6]) for n in range(1, 9)]
    assert first_rung(Budget(maximum=9), ACCURACY, reference, reversed_) == 3
