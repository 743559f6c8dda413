from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.confirmation.answer import answer
from orchestrator.confirmation.plan import IS_DEFAULT, KIND, MAX_SEEDS_KEY, SEED_INDEX
from orchestrator.confirmation.results import select_candidates
from orchestrator.objective import Objective
from orchestrator.trial import Trial, TrialState

ACCURACY = (Objective(metric="val_accuracy", direction="maximize"),)
LOSS = (Objective(metric="val_loss", direction="minimize"),)
BOTH = (*ACCURACY, Objective(metric="parameters", direction="minimize"))


def trial(number: int, *values: float, **changed: Any) -> Trial:
    given: dict[str, Any] = {
        "number": number,
        "uid": f"u{number}",
        "params": {},
        "distributions": {},
        "candidate": {"architecture": {}},
        "digest": f"d{number}",
        "state": TrialState.COMPLETE if values else TrialState.FAIL,
        "values": values or None,
        "seed": 0,
        "attempts": 1,
        "cost": {"parameters": 1000.0},
    }
    return Trial(**{**given, **changed})


def confirmations(
    parent: Trial, first: int, *scores: float | None, default: bool = False, seeds: int = 10
) -> list[Trial]:
    return [
        trial(
            first + index,
            *(() if score is None else (score,)),
            kind=KIND,
            parent=parent.uid,
            reason=None if score is not None else "out_of_memory",
            sampler_attrs={SEED_INDEX: index, MAX_SEEDS_KEY: seeds, IS_DEFAULT: default},
        )
        for index, score in enumerate(scores)
    ]


def study(
    default: Sequence[float | None], *candidates: Sequence[float | None], **changed: Any
) -> list[Trial]:
    """Return a default, a candidate for each other list, and their confirmations."""
    own = changed.pop("searched", 0.99)
    trials = [trial(0, own), *(trial(n, own, **changed) for n in range(1, len(candidates) + 1))]
    first = len(trials)
    for parent, scores in zip(tuple(trials), (default, *candidates), strict=True):
        trials += confirmations(parent, first, *scores, default=parent.number == 0)
        first = len(trials)
    return trials


NOISE = [0.900, 0.904, 0.897, 0.902, 0.899, 0.903, 0.898, 0.901, 0.900, 0.899]


def test_a_study_without_confirmation_claims_nothing() -> None:
    found = answer("mine", [trial(0, 0.9), trial(1, 0.99)], ACCURACY)
    assert found.sentence == (
        "not confirmed: the best value of a search is optimistic; run: archscout confirm mine"
    )
    assert not found.decided
    assert found.to_dict()["winner"] is None


def test_a_winner_is_named_with_its_gain_in_points_and_its_interval() -> None:
    found = answer("mine", study(NOISE[:5], [score + 0.05 for score in NOISE[1:6]]), ACCURACY)
    assert found.winner == 1
    assert found.sentence.startswith("trial 1 beats the default by 5.1 points (95 % interval ")
    assert found.sentence.endswith(", 5 seeds)")
    head, row = found.text().splitlines()[:2]
    assert head.split("  ")[1].strip() == "gain over the default in points"
    assert row.split()[:3] == ["trial", "1", "+5.1"]
    assert row.endswith("better")
    low, high = found.to_dict()["candidates"][0]["interval"]
    assert 0 < low < 0.0506 < high < 0.1


def test_a_loss_is_better_where_it_is_smaller_and_keeps_its_unit() -> None:
    found = answer("mine", study([2.0, 2.1, 1.9], [0.5, 0.6, 0.5], searched=1.0), LOSS)
    assert found.winner == 1
    assert "beats the default by 1.47 in val_loss (95 % interval" in found.sentence


def test_the_values_of_the_search_itself_enter_no_comparison() -> None:
    low, high = (study(NOISE[:3], NOISE[3:6], searched=own) for own in (0.1, 0.999))
    assert answer("mine", low, ACCURACY) == answer("mine", high, ACCURACY)


def test_no_difference_names_a_smaller_network_of_equal_accuracy() -> None:
    equal = [*NOISE[5:], *NOISE[:5]]
    trials = study(NOISE, equal, cost={"parameters": 210.0})
    found = answer("mine", trials, ACCURACY)
    assert found.decided
    assert found.winner is None
    assert found.sentence.startswith(
        "no candidate is better than the default beyond noise; the best alternative, trial 1, has "
        "0.21 of its parameters at the same accuracy (difference "
    )


@pytest.mark.parametrize(
    ("scores", "parameters"), [(NOISE[::-1], 2000.0), ([s - 0.1 for s in NOISE], 210.0)]
)
def test_a_larger_or_a_worse_network_is_no_alternative(
    scores: Sequence[float | None], parameters: float
) -> None:
    found = answer("mine", study(NOISE, scores, cost={"parameters": parameters}), ACCURACY)
    assert found.sentence == "no candidate is better than the default beyond noise"


def test_an_unfinished_confirmation_says_how_to_continue() -> None:
    found = answer("mine", study(NOISE[:3], NOISE[3:5]), ACCURACY)
    assert not found.decided
    assert found.sentence == (
        "not decided yet: the confirmation needs 3 of at most 10 seeds next; "
        "run: archscout confirm mine"
    )


def test_a_candidate_whose_confirmation_fails_is_dropped_with_the_reason() -> None:
    better = [score + 0.05 for score in NOISE[1:6]]
    found = answer("mine", study(NOISE[:5], [0.99, None, 0.99], better), ACCURACY)
    assert found.winner == 2
    assert found.candidates[0].verdict == "dropped: out_of_memory"


def test_a_default_that_fails_leaves_the_mean_of_the_best_candidate() -> None:
    found = answer("mine", study([0.9, None], NOISE[:5], [s + 0.02 for s in NOISE[:5]]), ACCURACY)
    assert found.sentence.startswith(
        "the study cannot be compared with the default, which failed (out_of_memory); "
        "trial 2 has the best mean val_accuracy, 0.9204 (95 % interval "
    )
    assert found.winner == 2
    assert [each.verdict for each in found.candidates] == ["not the best mean", "best mean"]


def test_candidates_are_the_best_trials_but_the_default() -> None:
    trials = [trial(0, 0.9), trial(1, 0.5), trial(2, 0.8), trial(3, 0.95), trial(4), trial(5, 0.7)]
    chosen = select_candidates(trials, ACCURACY, 3, trials[0])
    assert [each.number for each in chosen] == [3, 2, 5]


def test_candidates_of_a_front_are_its_best_by_the_main_objective_and_its_middle() -> None:
    trials = [
        trial(0, 0.90, 5000.0),
        trial(1, 0.99, 9000.0),
        trial(2, 0.10, 10.0),
        trial(3, 0.95, 1000.0),
        trial(4, 0.94, 8000.0),
    ]
    assert [t.number for t in select_candidates(trials, BOTH, 2, trials[0])] == [1, 3]
