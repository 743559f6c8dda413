"""Successive halving keeps the contract of pruners; broken pruners do not."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from orchestrator.objective import Objective
from orchestrator.sampling.halving import Halving
from orchestrator.testing import PrunerContract
from orchestrator.testing.pruners import MakePruner
from orchestrator.trial import Trial
from workers.budget import Budget


class TestHalving(PrunerContract):
    @pytest.fixture
    def make_pruner(self) -> MakePruner:
        return Halving


class OrderDependent(Halving):
    """Judges a trial once, among those that it has seen by then."""

    def __init__(self, budget: Budget, objectives: tuple[Objective, ...]) -> None:
        super().__init__(budget, objectives)
        self._decided: dict[tuple[str, int], bool] = {}

    def observe(self, trial: Trial) -> None:
        super().observe(trial)
        for fidelity in range(1, trial.reached + 1):
            self._decided.setdefault((trial.uid, fidelity), super().promotes(trial, fidelity))

    def promotes(self, trial: Trial, fidelity: int) -> bool:
        return self._decided.get((trial.uid, fidelity), True)


class PrunesTheDefault(Halving):
    """Judges trial 0 like any other."""

    def promotes(self, trial: Trial, fidelity: int) -> bool:
        better = self._num_better(fidelity).get(trial.uid, 0)
        return super().promotes(trial, fidelity) and (trial.number > 0 or better == 0)


class CountsConfirmations(Halving):
    """Takes the scores of confirmations for results of the search."""

    def observe(self, trial: Trial) -> None:
        super().observe(trial)
        self._trials[trial.uid] = trial
        self._scores.clear()
        self._better.clear()


class JudgesEachEpoch(Halving):
    """Prunes between rungs as well."""

    def promotes(self, trial: Trial, fidelity: int) -> bool:
        return (
            super().promotes(trial, fidelity) and self._num_better(fidelity).get(trial.uid, 0) < 3
        )


class KeepsNoPromise(Halving):
    """Lets a paused trial never continue."""

    def next_promoted(self, paused: Iterable[Trial]) -> Trial | None:
        return None


class EndsAllPaused(Halving):
    """Ends paused trials by halves, so that what remains is too many again."""

    def surplus(self, paused: Iterable[Trial]) -> list[Trial]:
        return [trial for index, trial in enumerate(paused) if index % 2]


Law = Callable[..., Any]


@pytest.mark.parametrize(
    ("law", "broken"),
    [
        (PrunerContract.test_a_pruner_rebuilt_in_any_order_decides_as_the_live_one, OrderDependent),
        (
            PrunerContract.test_the_default_and_other_kinds_than_search_train_to_the_end,
            PrunesTheDefault,
        ),
        (PrunerContract.test_trials_of_other_kinds_change_no_decision, CountsConfirmations),
        (PrunerContract.test_running_trials_are_judged_at_rungs_only, JudgesEachEpoch),
        (PrunerContract.test_worse_arrivals_make_room_for_a_paused_trial, KeepsNoPromise),
        (PrunerContract.test_surplus_is_of_the_paused_trials_and_ends_with_them, EndsAllPaused),
    ],
)
def test_the_contract_catches_a_broken_pruner(law: Law, broken: type[Halving]) -> None:
    law_of_seed: Any = law.hypothesis.inner_test  # type: ignore[attr-defined]  # no shrinking

    def check() -> None:
        for seed in range(15):
            law_of_seed(PrunerContract(), make_pruner=broken, seed=seed)

    with pytest.raises(AssertionError):
        check()
