"""Contract of pruners: decisions follow from the recorded trials alone, in any order."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.objective import Objective
from orchestrator.pruning.pruner import Pruner
from orchestrator.trial import Trial, TrialState
from workers.budget import Budget
from workers.measurement import Measurement

MakePruner = Callable[[Budget, tuple[Objective, ...]], Pruner]
"""Builds a pruner from the study's budget and objectives."""

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
SIZE = Objective(metric="parameters", direction="minimize")
MAXIMUM = 9
BUDGETS = (
    Budget(minimum=1, maximum=MAXIMUM, reduction_factor=3),
    Budget(minimum="auto", maximum=MAXIMUM, reduction_factor=3),
    Budget(minimum=2, maximum=MAXIMUM, reduction_factor=2),
)

_seeds = st.integers(0, 2**32 - 1)
_laws = settings(
    max_examples=15,
    deadline=None,
    # The fixture is stateless, and each subclass runs the laws of this class.
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
    ],
)


class PrunerContract:
    """Tests of a pruner; a subclass gives the fixture `make_pruner`."""

    @pytest.fixture
    def make_pruner(self) -> MakePruner:
        """Return a function that builds the pruner under test."""
        raise NotImplementedError("give a fixture `make_pruner`")

    @given(seed=_seeds)
    @_laws
    def test_a_pruner_rebuilt_in_any_order_decides_as_the_live_one(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        for _ in range(3):
            study.play(15)
            rebuilt = study.new_pruner()
            for trial in study.chance.sample(study.trials, len(study.trials)):
                rebuilt.observe(trial)
            assert study.decisions(rebuilt) == study.decisions(study.pruner)

    @given(seed=_seeds)
    @_laws
    def test_asking_and_observing_again_change_nothing(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        study.play(40)
        before = study.decisions(study.pruner)
        for trial in study.trials:
            study.pruner.observe(trial)
        assert study.decisions(study.pruner) == before

    @given(seed=_seeds)
    @_laws
    def test_the_default_and_other_kinds_than_search_train_to_the_end(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        study.play(40)
        exempt = [study.trials[0]]
        exempt += [replace(study.trials[-1], kind=kind) for kind in ("confirm", "replay")]
        for trial in exempt:
            study.pruner.observe(trial)
            assert all(study.pruner.promotes(trial, epoch) for epoch in range(1, MAXIMUM + 1))

    @given(seed=_seeds)
    @_laws
    def test_trials_of_other_kinds_change_no_decision(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        study.play(40)
        before = study.decisions(study.pruner)
        for kind in ("confirm", "replay"):
            study.pruner.observe(
                replace(a_trial(1000, 1.0), kind=kind, measurements=curve([9.0] * MAXIMUM))
            )
        assert study.decisions(study.pruner) == before

    @given(seed=_seeds)
    @_laws
    def test_running_trials_are_judged_at_rungs_only(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        for _ in range(40):
            study.play(1)
            rungs = study.pruner.rungs
            assert list(rungs) == sorted(set(rungs))
            assert all(1 <= rung < MAXIMUM for rung in rungs)
            for trial in study.running:
                between = {*range(1, MAXIMUM + 1)} - {*rungs}
                assert all(study.pruner.promotes(trial, epoch) for epoch in between)

    @given(seed=_seeds)
    @_laws
    def test_a_trial_without_the_metric_is_not_pruned_and_changes_no_decision(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        study.play(40)
        before = study.decisions(study.pruner)
        unknown = replace(
            a_trial(1000, 1.0), measurements=curve([0.5] * MAXIMUM, metric="val_other")
        )
        study.pruner.observe(unknown)
        assert all(study.pruner.promotes(unknown, epoch) for epoch in range(1, MAXIMUM + 1))
        assert study.decisions(study.pruner) == before

    @given(seed=_seeds)
    @_laws
    def test_the_next_promoted_trial_is_one_that_is_promoted(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        for _ in range(40):
            study.play(1)
            promoted = [t for t in study.paused if study.pruner.promotes(t, t.reached)]
            chosen = study.pruner.next_promoted(study.paused)
            assert chosen in promoted if promoted else chosen is None
        assert study.pruner.next_promoted([]) is None

    @given(seed=_seeds)
    @_laws
    def test_worse_arrivals_make_room_for_a_paused_trial(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        study.play(60)
        if not study.paused:
            return
        factor = study.budget.reduction_factor
        for number in range(1000, 1000 + factor * (len(study.trials) + 1)):
            worst = replace(a_trial(number, 1e9), measurements=curve([-1.0] * MAXIMUM))
            study.pruner.observe(worst)
        assert study.pruner.next_promoted(study.paused) is not None

    @given(seed=_seeds)
    @_laws
    def test_surplus_is_of_the_paused_trials_and_ends_with_them(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        study.play(80)
        crowd = [
            replace(trial, uid=f"{trial.uid}-{index}", number=1000 + index)
            for index in range(40)
            for trial in study.paused[:1]
        ]
        for trial in crowd:
            study.pruner.observe(trial)
        paused = [*study.paused, *crowd]
        surplus = study.pruner.surplus(paused)
        rest = [trial for trial in paused if trial not in surplus]
        assert all(trial in paused for trial in surplus)
        assert len(rest) + len(surplus) == len(paused)
        assert not study.pruner.surplus(rest)

    @given(seed=_seeds)
    @_laws
    def test_an_ended_trial_is_judged_as_a_paused_one_and_gives_way_to_its_continuation(
        self, make_pruner: MakePruner, seed: int
    ) -> None:
        study = PrunedStudy(make_pruner, seed)
        study.play(60)
        for paused in study.paused:
            ended = replace(paused, state=TrialState.PRUNED, reason="rung")
            child = replace(paused, uid="c" * 32, number=1000, kind="continue", parent=paused.uid)
            others = [trial for trial in study.trials if trial.uid != paused.uid]
            seen = [*others, ended, child]
            pruner = study.new_pruner()
            for trial in study.chance.sample(seen, len(seen)):
                pruner.observe(trial)
            promoted = study.pruner.promotes(paused, paused.reached)
            assert study.pruner.promotes(ended, ended.reached) == promoted
            assert pruner.promotes(child, child.reached) == promoted
            assert pruner.rungs == study.pruner.rungs
            for other in others:
                for epoch in range(1, other.reached + 1):
                    expected = study.pruner.promotes(other, epoch)
                    assert pruner.promotes(other, epoch) == expected


class PrunedStudy:
    """A study at random, whose trials train, pause, continue and fail as a pruner decides.

    The driver observes a trial after each epoch, judges it there, and continues what the pruner
    promotes when a worker is free.
    """

    WORKERS = 3

    def __init__(self, make_pruner: MakePruner, seed: int) -> None:
        """Start without trials.

        Args:
            make_pruner: Builds the pruner.
            seed: Decides budget, objectives, curves and which trial measures next.
        """
        self.chance = random.Random(seed)  # noqa: S311 - not for cryptography
        self.budget = self.chance.choice(BUDGETS)
        objectives = self.chance.choice([(ACCURACY,), (ACCURACY, SIZE)])
        self.new_pruner: Callable[[], Pruner] = lambda: make_pruner(self.budget, objectives)
        self.pruner = self.new_pruner()
        self._by_uid: dict[str, Trial] = {}

    @property
    def trials(self) -> list[Trial]:
        """All trials, by number."""
        return list(self._by_uid.values())

    @property
    def running(self) -> list[Trial]:
        """Trials that train."""
        return [trial for trial in self.trials if trial.state is TrialState.RUNNING]

    @property
    def paused(self) -> list[Trial]:
        """Trials that the pruner has paused."""
        return [trial for trial in self.trials if trial.paused]

    def play(self, epochs: int) -> None:
        """Measure so many epochs, each of a trial at random."""
        for _ in range(epochs):
            while len(self.running) < self.WORKERS:
                promoted = self.pruner.next_promoted(self.paused)
                # Few sizes and values, so that trials tie.
                new = a_trial(len(self._by_uid), self.chance.randint(1, 3))
                self._put(replace(promoted or new, state=TrialState.RUNNING, left_at_rung=False))
            self._measure(self.chance.choice(self.running))

    def decisions(self, pruner: Pruner) -> tuple[object, ...]:
        """Return all decisions about the trials as they are."""
        promoted = [
            (trial.uid, epoch)
            for trial in self.trials
            for epoch in range(1, trial.reached + 1)
            if pruner.promotes(trial, epoch)
        ]
        chosen = pruner.next_promoted(self.paused)
        surplus = {trial.uid for trial in pruner.surplus(self.paused)}
        return pruner.rungs, promoted, chosen and chosen.uid, surplus

    def _put(self, trial: Trial) -> None:
        self._by_uid[trial.uid] = trial
        self.pruner.observe(trial)

    def _measure(self, trial: Trial) -> None:
        if self.chance.random() < 0.05:
            state, reason = self.chance.choice(
                [(TrialState.PRUNED, "diverged"), (TrialState.FAIL, "user_code")]
            )
            self._put(replace(trial, state=state, reason=reason))
            return
        values = [m.metrics["val_accuracy"] for m in trial.measurements]
        measured = replace(trial, measurements=curve([*values, self.chance.randint(0, 4)]))
        self._put(measured)
        if measured.reached == MAXIMUM:
            self._put(replace(measured, state=TrialState.COMPLETE))
        elif measured.reached in self.pruner.rungs and not self.pruner.promotes(
            measured, measured.reached
        ):
            self._put(replace(measured, state=TrialState.WAITING, left_at_rung=True))


def a_trial(number: int, size: float) -> Trial:
    """Return a new trial of the search with a number of parameters."""
    return Trial(
        number=number,
        uid=f"{number:032x}",
        params={},
        distributions={},
        candidate={},
        digest=f"{number:064x}",
        seed=number,
        cost={"parameters": size},
    )


def curve(values: Sequence[float], metric: str = "val_accuracy") -> tuple[Measurement, ...]:
    """Return measurements of the first epochs."""
    return tuple(
        Measurement(fidelity=epoch, metrics={metric: float(value)}, elapsed_s=float(epoch))
        for epoch, value in enumerate(values, start=1)
    )
