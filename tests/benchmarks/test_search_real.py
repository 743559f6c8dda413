"""The benchmark of real searches: one budget and one protocol for all methods."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.search.real import loss_weights, process, smallest
from benchmarks.search.real.evaluation import TEST_SEEDS, Evaluation, Row, interval, sentence
from benchmarks.search.real.requests import JsonLines
from orchestrator.objective import Objective
from workers.budget import Budget
from workers.data import DataSpec

ACCURACY = Objective(metric="accuracy", direction="maximize")

EPOCHS, FULL = 5, 2
REQUEST = {
    "space": "tiny",
    "data": asdict(DataSpec(source="digits", limit=150)),
    "seed": 0,
    "epochs": EPOCHS,
    "full": FULL,
    "trials": 20,
    "max_cost": 1.5,
    "objectives": [{"metric": "val_accuracy", "direction": "maximize"}],
    "config": {"sampler": {"name": "tpe"}},
    "budget": {"minimum": 1},
}


@pytest.mark.parametrize("method", ["product", "optuna"])
def test_a_search_spends_its_epochs_and_begins_with_the_default(method: str) -> None:
    (found,) = process.search({**REQUEST, "method": method})

    trained = [trial for trial in found["trials"] if trial["curves"]]
    assert found["used"] == EPOCHS
    assert sum(len(trial["curves"]["val_accuracy"]) for trial in trained) == EPOCHS
    assert trained[0]["number"] == 0
    assert trained[0]["state"] == "COMPLETE"
    assert all(trial["flops"] <= 1.5 * trained[0]["flops"] for trial in trained)


def test_one_half_of_a_candidate_stays_at_its_default() -> None:
    dataset = process.load(DataSpec(source="digits", limit=150))
    default = process.open_space("hybrid", dataset).default()

    for half, fixed in process.HALVES.items():
        space = process.open_space("hybrid", dataset, half)
        names = space.default_params()
        assert space.default() == default
        assert not [name for name in names if name.split(".")[0] in fixed]
        assert len({name.split(".")[0] for name in names}) == 3 - len(fixed)


def test_training_opens_the_test_set_and_depends_on_the_seed_alone() -> None:
    runs = [{"candidate": None, "seed": seed} for seed in (1, 2, 1)]

    first, second, repeated = process.train({**REQUEST, "runs": runs})

    assert first["test"].keys() == {"test_loss", "test_accuracy"}
    assert {**first, "cpu_s": 0} == {**repeated, "cpu_s": 0}
    assert first["curves"] != second["curves"]


def trial(number: int, **final: float) -> dict[str, Any]:
    """Return a complete trial of a search."""
    curve = [0.5, final["found"]]
    return {
        "number": number,
        "digest": f"digest {number}",
        "state": "COMPLETE",
        "curves": {"val_accuracy": curve},
        "candidate": final,
        "parameters": 100.0 / (1 + number),
    }


def evaluated(folder: Path, trials: Sequence[Row]) -> Evaluation:
    """Return an evaluation whose trainings reach what each candidate says, with a little noise."""
    kept = JsonLines(folder, "trainings", ("dataset", "digest", "seed"))

    def train(dataset: str, missing: Sequence[tuple[Row, int]]) -> None:
        for one, seed in missing:
            noise = 0.001 * ((seed * 7 + one["number"] * 3) % 5 - 2)
            value = one["candidate"]["true"] + noise
            kept.append(
                {"dataset": dataset, "digest": one["digest"], "seed": seed}
                | {"curves": {"val_accuracy": [value]}, "test": {"test_accuracy": value - 0.01}}
            )

    return Evaluation(kept, ACCURACY, train)


def test_the_winner_is_chosen_by_other_seeds_not_by_the_search(tmp_path: Path) -> None:
    trials = [
        trial(0, found=0.80, true=0.80),
        trial(1, found=0.95, true=0.79),
        trial(2, found=0.85, true=0.85),
        {**trial(3, found=0.99, true=0.99), "state": "PRUNED"},
    ]
    search = {"dataset": "any", "trials": trials, "seed": 0}
    judge = evaluated(tmp_path, trials)

    result = judge.result(search)

    assert result is not None
    assert result.winner["number"] == 2
    gain = judge.gain("any", result.winner, trials[0])
    assert interval(gain).startswith("+5.0")
    assert len(gain) == len(TEST_SEEDS)
    assert sentence(judge, result).startswith("trial 2 beats the default by 4.9 points (95 %")
    assert judge.sane(search) == (3, 3)


def test_a_search_that_found_luck_alone_keeps_the_default(tmp_path: Path) -> None:
    trials = [
        trial(0, found=0.80, true=0.80),
        trial(1, found=0.85, true=0.80),
        {**trial(2, found=0.50, true=0.50), "curves": {"val_accuracy": [0.44]}, "state": "PRUNED"},
    ]
    search = {"dataset": "any", "trials": trials, "seed": 0}
    judge = evaluated(tmp_path, trials)

    result = judge.result(search)

    assert result is not None
    assert (result.winner["number"], result.alternative["number"]) == (0, 1)
    assert judge.sane(search) == (1, 2)
    assert sentence(judge, result).startswith("no candidate is better than the default beyond")


def test_kept_rows_are_read_again_by_every_shard_but_a_cut_line(tmp_path: Path) -> None:
    JsonLines(tmp_path, "rows", ("key",), "0/2").append({"key": 1, "value": "a"})
    JsonLines(tmp_path, "rows", ("key",), "1/2").append({"key": 2, "value": "b"})
    with (tmp_path / "rows-1-of-2.jsonl").open("a") as file:
        file.write('{"key": 3, "va')

    kept = JsonLines(tmp_path, "rows", ("key",))

    assert sorted(kept.rows) == [(1,), (2,)]


def test_stored_rows_are_read_first_and_replaced_by_later_ones(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    before = JsonLines(tmp_path / "before", "rows", ("key",), stored=stored)
    for key in (1, 2):
        before.append({"key": key, "value": "old"})
    before.store()

    JsonLines(tmp_path / "after", "rows", ("key",), stored=stored).append(
        {"key": 2, "value": "new"}
    )

    rows = JsonLines(tmp_path / "after", "rows", ("key",), stored=stored).rows
    assert {key: row["value"] for key, row in rows.items()} == {(1,): "old", (2,): "new"}


def frozen_trial(number: int, accuracy: float | None, parameters: float) -> Any:
    """Return what the smallest network is chosen by."""
    values = None if accuracy is None else {"val_accuracy": accuracy, "parameters": parameters}
    return SimpleNamespace(
        number=number, values=values, cost={"parameters": parameters, "flops": 1.0}
    )


def test_the_smallest_network_is_smaller_than_the_default_and_about_as_accurate() -> None:
    trials = [
        frozen_trial(0, 0.900, 100.0),
        frozen_trial(1, 0.896, 40.0),
        frozen_trial(2, 0.894, 10.0),
        frozen_trial(3, 0.897, 20.0),
        frozen_trial(4, 0.950, 120.0),
        frozen_trial(5, None, 5.0),
    ]

    assert [trial.number for trial in smallest.candidates(trials)] == [3, 1]


def test_a_small_network_counts_only_if_it_is_as_good_with_other_seeds(tmp_path: Path) -> None:
    accuracies = {0: 0.90, 1: 0.89, 2: 0.899}  # of the trials, with other seeds
    trials = [frozen_trial(0, 0.90, 100.0), frozen_trial(1, 0.91, 10.0), frozen_trial(2, 0.9, 20.0)]
    kept = JsonLines(tmp_path, "smallest", ("number", "seed"))
    for number, value in accuracies.items():
        for seed in (1, 2):
            row = {"number": number, "seed": seed, "curves": {"val_accuracy": [0.1, value]}}
            kept.append({**row, "test": {"test_accuracy": value}})
    config = SimpleNamespace(space_base="tiny", data=DataSpec(), budget=Budget())
    study: Any = SimpleNamespace(config=config, trials=trials, best_trials=trials)
    retrainings = smallest.Retrainings(kept=kept, study=study, seeds=range(1, 3))

    *front, rejected, accepted = smallest.report(study, retrainings)

    assert len(front) == len(trials)
    assert rejected == "trial 1 is not as good with other seeds"
    assert accepted.startswith("trial 2 has 0.200 of the default's parameters")
    assert "-0.10" in accepted


def test_trials_that_pay_for_the_angle_with_accuracy_are_not_compared() -> None:
    curves = [[0.99], [0.985], [0.97], []]
    trials = [
        {"number": number, "curves": {"val_accuracy": curve} if curve else {}}
        for number, curve in enumerate(curves)
    ]
    search = {"trials": trials}

    kept = loss_weights.admitted(loss_weights.QUESTIONS["shapes"], search)

    assert [trial["number"] for trial in kept["trials"]] == [0, 1]
    assert loss_weights.admitted(loss_weights.QUESTIONS["digits"], search) is search


def test_errors_are_compared_in_percent_of_the_other_trials(tmp_path: Path) -> None:
    kept = JsonLines(tmp_path, "trainings", ("dataset", "digest", "seed"))
    trials = [{"digest": "better"}, {"digest": "diverges"}, {"digest": "worse"}]
    for seed in TEST_SEEDS:
        row = {"dataset": "any", "seed": seed}
        kept.append({**row, "digest": "better", "test": {"test_rmse": 0.15}})
        kept.append({**row, "digest": "diverges", "test": {}})
        kept.append({**row, "digest": "worse", "test": {"test_rmse": 0.2}})
    objective = Objective(metric="rmse", direction="minimize")
    judge = Evaluation(kept, objective, diverged=1.0)

    better, diverges, worse = trials
    assert judge.gain("any", better, worse) == pytest.approx([25.0] * 5)
    assert judge.gain("any", diverges, worse) == pytest.approx([-400.0] * 5)
