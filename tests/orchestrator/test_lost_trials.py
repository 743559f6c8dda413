"""A trial whose driver dies again and again ends; one that is only unlucky does not."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.studies import Dying, Killed, config, curve, opened, run

from orchestrator.ledger import AttemptRecord, Ledger
from orchestrator.study.retry_policy import MAX_LOSSES, losses
from orchestrator.trial import Trial, TrialState
from workers.job import TrainingJob
from workers.measurement import Measurement

ASKED = config(stop={"trials": 4}, pruner={"name": "none"}, sampler={"name": "random"})


def die_in(folder: Path, number: int, *, after: int) -> tuple[Trial, ...]:
    """One driver, which trial `number` kills once that many epochs of it were recorded."""
    ledgers: list[Dying] = []

    def mortal(ledger: Ledger) -> Dying:
        ledgers.append(Dying(ledger, after=10**9, acknowledged=True))
        return ledgers[0]

    def deadly(job: TrainingJob, dataset: Any) -> Iterator[Measurement]:
        for seen in curve(job, dataset):
            if job.trial_number == number and seen.fidelity > after:
                ledgers[0].dead = True
                raise Killed
            yield seen

    with suppress(Killed), opened(folder, ASKED, through=mortal) as study:
        run(study, deadly)
    return study.trials


def outcomes(folder: Path, trial: Trial) -> list[str | None]:
    with Ledger.open(folder / "ledger.db") as ledger:
        return [attempt.outcome for attempt in ledger.attempts(trial.uid)]


def test_a_trial_that_kills_its_driver_fails_and_the_others_are_trained(tmp_path: Path) -> None:
    for _ in range(MAX_LOSSES):
        assert not any(trial.state is TrialState.FAIL for trial in die_in(tmp_path, 1, after=0))
    trials = die_in(tmp_path, 1, after=0)
    assert [str(trial.state) for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert outcomes(tmp_path, trials[1]) == ["lost"] * MAX_LOSSES
    assert trials[1].reason == "infrastructure"
    message = str((trials[1].failure or {})["message"])
    assert "died 3 times in a row while trial 1 ran" in message
    assert "archscout retry small --class infrastructure" in message


def test_a_trial_that_records_an_epoch_in_every_life_is_never_given_up(tmp_path: Path) -> None:
    for life in range(1, 9):
        die_in(tmp_path, 1, after=life)
    trials = die_in(tmp_path, 1, after=9)
    assert outcomes(tmp_path, trials[1]) == [*["lost"] * 8, "complete"]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_a_trial_lost_with_its_driver_lets_other_waiting_ones_go_first(tmp_path: Path) -> None:
    with suppress(Killed):
        ledgers: list[Dying] = []

        def mortal(ledger: Ledger) -> Dying:
            ledgers.append(Dying(ledger, after=10**9, acknowledged=True))
            return ledgers[0]

        with opened(tmp_path, ASKED, through=mortal) as study:
            _, interrupted = study.ask(), study.ask()
            assert interrupted is not None
            study.requeue(interrupted.key)
            ledgers[0].dead = True
    with opened(tmp_path, ASKED) as study:
        following = [study.ask(), study.ask(), study.ask()]
    assert [job and job.trial_number for job in following] == [1, 0, 2]


def test_trials_close_to_failing_run_one_at_a_time(tmp_path: Path) -> None:
    def life(*, fails: int) -> None:
        """A driver under which two trials start, and that dies before either has an epoch."""
        ledgers: list[Dying] = []

        def mortal(ledger: Ledger) -> Dying:
            ledgers.append(Dying(ledger, after=10**9, acknowledged=True))
            return ledgers[0]

        with suppress(Killed), opened(tmp_path, two, through=mortal) as study:
            states = [trial.state for trial in study.trials]
            assert states.count(TrialState.FAIL) == fails
            study.ask(), study.ask()
            ledgers[0].dead = True

    two = ASKED.model_copy(update={"stop": ASKED.stop.model_copy(update={"trials": 2})})
    for _ in range(MAX_LOSSES):
        life(fails=0)
    with opened(tmp_path, two) as study:
        assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
        run(study, curve)
        assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_trial_close_to_failing_lets_the_next_one_start_once_it_records_an_epoch(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, ASKED) as study:
        for trial in (study.ask(), study.ask()):
            assert trial is not None
            study.requeue(trial.key)
            study._state.index.postpone(trial.key.trial_uid, MAX_LOSSES - 1)
        first, fresh, none_yet = study.ask(), study.ask(), study.ask()
        assert [job and job.trial_number for job in (first, fresh)] == [0, 2]
        assert none_yet is not None
        assert none_yet.trial_number == 3
        assert study.ask() is None
        assert not study.finished
        assert first is not None
        study.report(first.key, next(iter(curve(first, None))))
        last = study.ask()
        assert last is not None
        assert last.trial_number == 1


@given(st.lists(st.tuples(st.sampled_from(["lost", "crash", "interrupted"]), st.integers(0, 2))))
def test_only_fruitless_losses_in_a_row_count(ended: list[tuple[str, int]]) -> None:
    attempts = [
        AttemptRecord(
            number=number,
            generation=number,
            node=None,
            pid=None,
            started=0.0,
            ended=1.0,
            outcome=outcome,
            failure=None,
            measured=measured,
        )
        for number, (outcome, measured) in enumerate(ended, start=1)
    ]
    counted = losses(attempts)
    assert set(ended[len(ended) - counted :]) <= {("lost", 0)}
    assert counted == len(ended) or ended[-counted - 1] != ("lost", 0)
