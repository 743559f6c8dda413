"""What a study promises an engine: counting, retries, outcomes, and one answer for each attempt."""

import errno
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.studies import config, curve, opened, run

from orchestrator.config.resources import with_gpu
from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Holder, Ledger
from orchestrator.sampling.candidates import UserSpaceError
from orchestrator.sampling.seed_points import SeedPointError
from orchestrator.snapshot import Verdict
from orchestrator.trial import TrialState
from search_spaces.space import DefineByRunSpace
from workers.failures import DivergedError, Failure, FailureKind
from workers.job import TrainingJob
from workers.measurement import Measurement, Progress


@dataclass
class StubClock:
    """A clock that is set by hand."""

    seconds: float = 0.0

    def now(self) -> float:
        return 1e9 + self.seconds

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Failing:
    """A worker that fails as given: the n-th attempt with the n-th error; None trains."""

    errors: list[BaseException | None]
    started: list[int] = field(default_factory=list)

    def __call__(self, job: TrainingJob, dataset: Any) -> Iterator[Measurement | Progress]:
        self.started.append(job.trial_number)
        error = self.errors.pop(0) if self.errors else None
        for seen in curve(job, dataset):
            if error is not None:
                raise error
            yield seen


def failure(kind: FailureKind) -> Failure:
    return Failure.without_traceback(kind, "seen from outside")


def first_epoch(value: float = 0.5) -> Measurement:
    return Measurement(fidelity=1, metrics={"val_accuracy": value}, elapsed_s=1.0)


def test_a_study_ends_with_as_many_trials_as_were_asked_for(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        run(study)
        assert study.finished
        assert len(study.trials) == 15
        assert study.stop_reason is None
        assert study.abort_reason is None


def test_the_first_trial_is_complete_whatever_it_is_worth(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        run(study)
        assert study.trials[0].state is TrialState.COMPLETE


def test_the_value_is_that_of_the_last_epoch(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        run(study)
        first = study.trials[0]
        assert first.values == (first.measurements[-1].metrics["val_accuracy"],)
        assert first.measurements[-1].fidelity == 9


def test_halving_stops_trials_at_rungs_only(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        run(study)
        stopped = [t for t in study.trials if t.reason == "rung"]
        assert stopped
        assert {t.measurements[-1].fidelity for t in stopped} <= {1, 3}


def test_without_a_pruner_every_trial_is_complete(tmp_path: Path) -> None:
    with opened(tmp_path, config(pruner={"name": "none"}, stop={"trials": 5})) as study:
        run(study)
        assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def test_a_new_driver_finds_a_finished_study_finished(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        run(study)
    with opened(tmp_path) as study:
        assert study.finished
        assert study.ask() is None


def test_the_seed_of_a_trial_follows_from_study_and_number(tmp_path: Path) -> None:
    seeds = []
    for folder in ("one", "two"):
        with opened(tmp_path / folder, config(stop={"trials": 4})) as study:
            run(study)
            seeds.append([t.seed for t in study.trials])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 4


def test_seed_points_come_first_and_open_decisions_are_drawn(tmp_path: Path) -> None:
    points = [{"kind": "steep", "rate": 0.5, "depth": 3}, {"kind": "flat"}]
    with opened(tmp_path, config(seed_points=points, stop={"trials": 3})) as study:
        run(study)
        assert study.trials[0].params == points[0]
        assert study.trials[1].params["kind"] == "flat"


@pytest.mark.parametrize(
    ("point", "complaint"),
    [
        ({"kind": "flat", "rat": 0.1}, r"seed_points\[0\].rat: .*Did you mean 'rate'"),
        ({"kind": "curved"}, r"seed_points\[0\]: kind: 'curved'"),
        ({"rate": 5.0}, r"seed_points\[0\]: rate: 5.0"),
    ],
)
def test_a_seed_point_outside_the_space_is_refused(
    tmp_path: Path, point: dict[str, Any], complaint: str
) -> None:
    asked = config(seed_points=[point])
    with pytest.raises(SeedPointError, match=complaint), opened(tmp_path, asked):
        pass


def test_a_space_that_raises_over_a_seed_point_is_the_users_mistake(tmp_path: Path) -> None:
    def raising(trial: Any) -> dict[str, Any]:
        return {"kind": {}[trial.suggest_categorical("kind", ["flat"])]}

    space = DefineByRunSpace(name="raising", version="1", function=raising)
    asked = config(seed_points=[{"kind": "flat"}])
    with (
        pytest.raises(UserSpaceError, match="the space raised KeyError: 'flat'"),
        opened(tmp_path, asked, space=space),
    ):
        pass


@given(
    st.lists(
        st.sampled_from(
            [None, ValueError("bad"), MemoryError(), OSError(5, "disk"), DivergedError("nan")]
        ),
        max_size=12,
    )
)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_asked_trial_is_told_once_whatever_its_worker_does(
    tmp_path_factory: pytest.TempPathFactory, errors: list[Any]
) -> None:
    worker = Failing(errors)
    folder = tmp_path_factory.mktemp("ended")
    with opened(folder, config(stop={"trials": 6})) as study:
        run(study, worker)
        assert study.finished
        ended = [t for t in study.trials if t.state.is_terminal]
        waiting = [t for t in study.trials if t.state is TrialState.WAITING]
        assert {t.number for t in ended} | {t.number for t in waiting} == set(worker.started)
        assert study.stopping or not waiting
    with Ledger.open(folder / "ledger.db") as ledger:
        row = ledger.study("small")
        assert row is not None
        ends = Counter(
            e.payload["uid"] for e in ledger.events(row.id, 0, 10_000) if e.kind == "trial_finished"
        )
        assert set(ends.values()) <= {1}
        assert set(ends) == {t.uid for t in ended}


@pytest.mark.parametrize(
    ("kind", "attempts", "state", "reason"),
    [
        (FailureKind.USER_CODE, 1, TrialState.FAIL, "user_code"),
        (FailureKind.BAD_CANDIDATE, 1, TrialState.FAIL, "bad_candidate"),
        (FailureKind.DIVERGED, 1, TrialState.PRUNED, "diverged"),
        (FailureKind.OUT_OF_MEMORY, 2, TrialState.FAIL, "out_of_memory"),
        (FailureKind.TIMEOUT, 3, TrialState.FAIL, "timeout"),
        (FailureKind.CRASH, 3, TrialState.FAIL, "infrastructure"),
        (FailureKind.INFRASTRUCTURE, 6, TrialState.FAIL, "infrastructure"),
    ],
)
def test_failures_are_retried_by_class(
    tmp_path: Path, kind: FailureKind, attempts: int, state: TrialState, reason: str
) -> None:
    for _ in range(attempts):  # a driver each: what was tried before is not forgotten
        with opened(tmp_path, config(stop={"trials": 1})) as study:
            job = study.ask()
            assert job is not None
            study.tell(job.key, failure(kind))
            trial = study.trials[0]
    assert (trial.state, trial.reason, trial.attempts) == (state, reason, attempts)
    assert trial.failure is not None
    assert trial.failure["kind"] == kind


def test_after_memory_ran_out_an_attempt_gets_a_larger_share_whoever_starts_it(
    tmp_path: Path,
) -> None:
    asked = config(stop={"trials": 1}, resources={"cpu": 1, "gpu": 0.3})
    shares = []
    for kind in (FailureKind.TIMEOUT, FailureKind.OUT_OF_MEMORY, FailureKind.TIMEOUT):
        with opened(tmp_path, asked) as study:
            job = study.ask()
            assert job is not None
            shares.append((job.shares, job.gpu_share, job.threads))
            study.tell(job.key, failure(kind))
    with opened(tmp_path, asked) as study:
        job = study.ask()
        assert job is not None
        shares.append((job.shares, job.gpu_share, job.threads))
        study.tell(job.key, failure(FailureKind.OUT_OF_MEMORY))
        assert study.trials[0].reason == "out_of_memory"
        study._ledger.add_request(study._lease.study_id, "retry", {"class": "out_of_memory"})
    with opened(tmp_path, asked) as study:
        job = study.ask()
        assert job is not None
        assert (job.trial_number, job.shares, job.gpu_share) == (1, 2, 0.6)
    assert shares == [(1, 0.3, 1), (1, 0.3, 1), (2, 0.6, 1), (2, 0.6, 1)]


def test_a_full_disk_stops_the_study_and_costs_no_trial_an_attempt_that_it_would_miss(
    tmp_path: Path,
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device, 0 bytes are free", "/checkpoints")
    for _ in range(8):  # more often than any failure is retried
        worker = Failing([full])
        with opened(tmp_path, config(stop={"trials": 2})) as study:
            run(study, worker)
            assert study.stop_reason == "blocked"
            assert study.block_reason is not None
            assert "0 bytes are free: '/checkpoints'" in study.block_reason
            assert study.abort_reason is None
            assert [trial.state for trial in study.trials] == [TrialState.WAITING]
        assert worker.started == [0]
    with opened(tmp_path, config(stop={"trials": 2})) as study:
        run(study)
        assert study.trials[0].state is TrialState.COMPLETE


def test_a_request_of_an_unknown_kind_is_answered_and_does_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        asked = study._ledger.add_request(study._lease.study_id, "dance", {})
    with opened(tmp_path) as study:
        assert "does not know 'dance'" in study._ledger.read_answer(asked)["refused"]
        assert study.trials == ()


def test_a_retried_trial_keeps_number_and_parameters(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        first = study.ask()
        assert first is not None
        study.tell(first.key, failure(FailureKind.INFRASTRUCTURE))
        again = study.ask()
        assert again is not None
        assert (again.trial_number, again.candidate) == (first.trial_number, first.candidate)
        assert again.key.number == 2
        assert study.snapshot().counted == 1


def test_an_epoch_that_is_measured_again_is_not_judged_again(tmp_path: Path) -> None:
    with opened(tmp_path, config(stop={"trials": 9})) as study:
        run_of_0 = study.ask()
        first = study.ask()
        assert run_of_0 is not None
        assert first is not None
        assert study.report(first.key, first_epoch(0.1)) is Verdict.CONTINUE
        study.tell(first.key, failure(FailureKind.INFRASTRUCTURE))
        again = study.ask()
        assert again is not None
        assert again.trial_number == first.trial_number
        for better in (0.7, 0.8, 0.9):  # who now would not pass the rung that it has passed
            other = study.ask()
            assert other is not None
            study.report(other.key, first_epoch(better))
        assert study.report(again.key, first_epoch(0.1)) is Verdict.CONTINUE


def test_a_measurement_that_is_not_finite_ends_the_trial_as_diverged(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        job = study.ask()
        assert job is not None
        assert study.report(job.key, first_epoch(float("nan"))) is Verdict.STOP
        study.tell(job.key)
        assert (study.trials[0].state, study.trials[0].reason) == (TrialState.PRUNED, "diverged")
        assert study.trials[0].measurements == ()


def test_a_trial_that_does_not_measure_the_objective_fails_at_the_first_rung(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as study:
        job = study.ask()
        assert job is not None
        seen = Measurement(fidelity=1, metrics={"val_loss": 0.5}, elapsed_s=1.0)
        assert study.report(job.key, seen) is Verdict.STOP
        study.tell(job.key)
        trial = study.trials[0]
        assert trial.state is TrialState.FAIL
        assert trial.failure is not None
        assert "val_accuracy was not measured at epoch 1" in trial.failure["message"]


def test_a_worker_that_ends_early_of_its_own_accord_has_failed(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        job = study.ask()
        assert job is not None
        study.report(job.key, first_epoch())
        study.tell(job.key)
        assert study.trials[0].failure is not None
        assert "after epoch 1 of 9" in study.trials[0].failure["message"]


def test_a_trial_measured_to_the_top_is_complete_even_if_its_worker_then_dies(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as study:
        job = study.ask()
        assert job is not None
        for seen in curve(job, None):
            study.report(job.key, seen)
        study.tell(job.key, failure(FailureKind.INFRASTRUCTURE))
        assert study.trials[0].state is TrialState.COMPLETE


def test_an_old_attempt_is_told_to_stop_and_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        old = study.ask()
        assert old is not None
        study.requeue(old.key)
        new = study.ask()
        assert new is not None
        assert study.report(old.key, first_epoch()) is Verdict.STOP
        study.tell(old.key)
        study.requeue(old.key)
        assert study.trials[0].state is TrialState.RUNNING
        assert study.trials[0].measurements == ()


def test_an_epoch_measured_twice_counts_once_and_the_first_wins(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        job = study.ask()
        assert job is not None
        study.report(job.key, first_epoch(0.5))
        study.report(job.key, first_epoch(0.7))
        assert [m.metrics["val_accuracy"] for m in study.trials[0].measurements] == [0.5]


def test_a_stopping_study_pauses_what_runs_and_starts_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        job = study.ask()
        assert job is not None
        study.request_stop("signal")
        assert study.report(job.key, first_epoch()) is Verdict.PAUSE
        study.requeue(job.key)
        assert study.ask() is None
        assert study.finished
        assert study.trials[0].state is TrialState.WAITING
        assert len(study.trials[0].measurements) == 1


def test_closing_gives_back_what_still_runs(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        study.ask()
        study.ask()
    assert {t.state for t in study.trials} == {TrialState.WAITING}


def test_hours_accumulate_over_resumes(tmp_path: Path) -> None:
    clock = StubClock()
    asked = config(stop={"hours": 1.0})
    with opened(tmp_path, asked, clock=clock) as study:
        clock.seconds = 2000.0
        assert not study.stopping
    clock.seconds = 50_000.0
    with opened(tmp_path, asked, clock=clock) as study:
        assert study.spent_s == 2000.0
        clock.seconds += 1599.0
        assert not study.stopping
        clock.seconds += 2.0
        assert study.stopping
        assert study.stop_reason == "hours"


def test_a_reached_target_ends_the_search(tmp_path: Path) -> None:
    with opened(tmp_path, config(stop={"trials": 50, "target": 0.2})) as study:
        run(study)
        assert study.stop_reason == "target"
        assert len(study.trials) == 1


def test_the_same_failure_in_the_first_trials_breaks_the_search_off(tmp_path: Path) -> None:
    worker = Failing([ValueError("shapes differ")] * 40)
    with opened(tmp_path) as study:
        run(study, worker)
        assert study.abort_reason is not None
        assert "shapes differ" in study.abort_reason
        assert study.stop_reason == "broken"
        assert len(worker.started) == 3


def test_more_than_half_of_the_last_twenty_failing_breaks_the_search_off(tmp_path: Path) -> None:
    errors = [None, *(ValueError(f"case {n}") for n in range(40))]
    with opened(tmp_path, config(stop={"trials": 50})) as study:
        run(study, Failing(errors))
        assert study.abort_reason is not None
        assert study.abort_reason.startswith("11 of the last 12 trials failed")


def test_failures_now_and_then_break_nothing_off(tmp_path: Path) -> None:
    errors = [None, ValueError("once"), None, None] * 4
    with opened(tmp_path) as study:
        run(study, Failing(list(errors)))
        assert study.abort_reason is None


def test_a_study_whose_every_trial_failed_is_broken(tmp_path: Path) -> None:
    with opened(tmp_path, config(stop={"trials": 2})) as study:
        run(study, Failing([ValueError("one"), ValueError("two")]))
        assert study.abort_reason is not None
        assert "every one of 2 trials failed" in study.abort_reason


def test_a_space_that_raises_breaks_the_search_off(tmp_path: Path) -> None:
    def thorny(trial: Any) -> None:
        raise KeyError("width")

    space = DefineByRunSpace(name="thorny", version="1", function=thorny)
    with opened(tmp_path, space=space) as study:
        run(study)
        assert study.abort_reason == "the space raised KeyError: 'width'"


def six(trial: Any) -> dict[str, Any]:
    kind = trial.suggest_categorical("kind", ["flat", "steep"])
    return {"kind": kind, "rate": 0.1, "depth": trial.suggest_int("depth", 1, 3)}


def test_a_space_tried_to_its_end_ends_the_search(tmp_path: Path) -> None:
    space = DefineByRunSpace(name="six", version="1", function=six)
    with opened(tmp_path, space=space) as study:
        run(study)
        assert study.finished
        assert study.snapshot().counted == 6
        assert sum(t.reason != "duplicate" for t in study.trials) == 6


def test_a_duplicate_is_answered_from_the_ledger_and_not_counted(tmp_path: Path) -> None:
    space = DefineByRunSpace(name="six", version="1", function=six)
    with opened(tmp_path, space=space) as study:
        run(study)
        by_uid = {t.uid: t for t in study.trials}
        duplicates = [t for t in study.trials if t.reason == "duplicate"]
        assert duplicates
        for trial in duplicates:
            duplicate = by_uid[trial.parent or ""]
            # The original is complete, or a rung had paused it and it never went on.
            assert (trial.state, trial.values, trial.digest) == (
                duplicate.state,
                duplicate.values,
                duplicate.digest,
            )
            assert trial.attempts == 0


def test_a_duplicate_of_a_running_trial_waits_for_it(tmp_path: Path) -> None:
    space = DefineByRunSpace(
        name="one", version="1", function=lambda t: {"kind": t.suggest_categorical("kind", ["a"])}
    )
    with opened(tmp_path, space=space) as study:
        job = study.ask()
        assert job is not None
        assert study.ask() is None
        assert not study.finished
        study.tell(job.key, failure(FailureKind.USER_CODE))
        assert study.ask() is None
        assert study.finished


def test_parallel_attempts_are_told_apart(tmp_path: Path) -> None:
    """Four threads drive one study, as slots of a cluster do."""
    with opened(tmp_path, config(stop={"trials": 12})) as study:

        def slot() -> None:
            while (job := study.ask()) is not None:
                for seen in curve(job, None):
                    if study.report(job.key, seen) is not Verdict.CONTINUE:
                        break
                study.tell(job.key)

        slots = [threading.Thread(target=slot) for _ in range(4)]
        for thread in slots:
            thread.start()
        for thread in slots:
            thread.join()
        assert study.finished
        assert [t.number for t in study.trials] == list(range(12))
        assert all(t.state.is_terminal for t in study.trials)


def test_whoever_lost_the_lease_writes_nothing_more(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        job = study.ask()
        assert job is not None
        with Ledger.open(tmp_path / "ledger.db") as other:
            other.open_study(name="small", config_json=None, holder=Holder.of_this_process())
            assert study.report(job.key, first_epoch()) is Verdict.PAUSE
            study.requeue(job.key)
            study.tell(job.key)
            assert study.ask() is None
            assert study.lease_lost is not None
            assert study.stop_reason == "lease"
            row = other.study("small")
            assert row is not None
            assert [t.measurements for t in other.trials(row.id)] == [()]


def test_a_snapshot_says_how_the_study_stands(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        job = study.ask()
        assert job is not None
        study.report(job.key, first_epoch(0.5))
        (running,) = study.snapshot().running
        assert (running.number, running.epoch, running.rung, running.metric) == (0, 1, 3, 0.5)
        assert running.describe.startswith("kind=")
        assert study.snapshot().counts["RUNNING"] == 1
        run(study)
        best = max(study.trials, key=lambda t: t.values or (0.0,))
        assert study.snapshot().best_number == best.number


def test_only_the_best_ten_keep_their_checkpoints(tmp_path: Path) -> None:
    def saving(job: TrainingJob, dataset: Any) -> Iterator[Measurement]:
        folder = Path(job.checkpoint_dir or "")
        folder.mkdir(parents=True)
        return curve(job, dataset)

    asked = config(stop={"trials": 13}, pruner={"name": "none"})
    with opened(tmp_path, asked) as study:
        run(study, saving)
        ranked = sorted(study.trials, key=lambda t: t.values or (), reverse=True)
        kept = {path.name for path in (tmp_path / "checkpoints" / "small").iterdir()}
        assert kept == {t.uid for t in ranked[:10]}


def test_what_a_crash_left_is_swept_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.study.continuing.MAX_CONTINUABLE", 0)
    asked = config(stop={"trials": 4}, sampler={"name": "tpe"})
    with opened(tmp_path, asked) as study:
        run(study)
        pruned = next(t for t in study.trials if t.reason == "rung")
    left = tmp_path / "checkpoints" / "small" / pruned.uid
    left.mkdir(parents=True)
    with opened(tmp_path, asked):
        assert not left.exists()


def test_gpus_that_an_engine_finds_are_settled_once_and_kept_in_the_ledger(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        assert study.settle_gpu(1.0) is None
        assert study.settle_gpu(0.0) == 1
        assert study.config.resources.gpu == 1
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        row = ledger.study(study.name)
        assert row is not None
        assert StudyConfig.from_json(row.config_json) == with_gpu(config(), 1.0, found=True)
