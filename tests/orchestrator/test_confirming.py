"""Confirmation: the best trials and the default with further seeds, whatever happens to them."""

import errno
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.studies import (
    BRANCHING,
    NO_DATA,
    Dying,
    Killed,
    config,
    curve,
    opened,
    quality,
    run,
    story,
)

from orchestrator.clock import SystemClock
from orchestrator.config.schema import ConfirmConfig, StudyConfig
from orchestrator.confirmation.answer import Answer, answer
from orchestrator.confirmation.plan import KIND
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.ledger import Ledger
from orchestrator.study.driver import StudyDriver
from orchestrator.study.retry_policy import MAX_LOSSES
from orchestrator.trial import Trial, TrialState
from search_spaces.space import DefineByRunSpace
from workers.failures import BadCandidateError, DivergedError
from workers.job import TrainingJob
from workers.measurement import Measurement

DEFAULT = {"kind": "flat", "rate": 1.0}


class WithDefault(DefineByRunSpace):
    """The small space, with a default that most candidates beat."""

    def default_params(self) -> Any:
        return dict(DEFAULT)


SPACE = WithDefault(name="branching", version="1", function=BRANCHING.function)
Worker = Callable[[TrainingJob, Any], Iterator[Measurement]]


def noisy(gain: float = 1.0, failing: Callable[[TrainingJob], bool] = lambda _: False) -> Worker:
    """Return a worker whose results differ by seed; with gain 0 all candidates are equal."""

    def train(job: TrainingJob, _: Any) -> Iterator[Measurement]:
        decisions = dict(job.candidate["decisions"])
        rng = random.Random(f"{job.seed} {sorted(decisions.items())}")
        for epoch in range(1, job.budget.maximum + 1):
            if failing(job):
                raise BadCandidateError("a confirmation fails")
            value = 0.6 + gain * (quality(decisions) - 0.6) + rng.gauss(0, 0.01)
            yield Measurement(
                fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=float(epoch)
            )

    return train


def confirmed(**changed: Any) -> StudyConfig:
    return config(
        confirm={"top": 2, "seeds": 5},
        stop={"trials": 12},
        pruner={"name": "none"},
        **changed,
    )


def ended(study: StudyDriver) -> Answer:
    return answer(study.name, study.trials, study.config.objectives)


def confirmations(study: StudyDriver) -> list[Trial]:
    return [trial for trial in study.trials if trial.kind == KIND]


def test_a_search_continues_into_its_confirmation_and_names_the_winner(tmp_path: Path) -> None:
    with opened(tmp_path, confirmed(), space=SPACE) as study:
        run(study, noisy())
        found = ended(study)
        assert study.finished
        assert study.search_finished
    winner = study.trials[found.winner or 0]
    assert found.decided
    assert "beats the default by" in found.sentence
    assert winner.kind == "search"
    seeds: dict[str | None, list[int]] = {}
    for trial in confirmations(study):
        seeds.setdefault(trial.parent, []).append(trial.seed)
    assert seeds.pop(study.trials[0].uid) == seeds[winner.uid]
    assert len(seeds) == 2
    assert not {*seeds[winner.uid]} & {t.seed for t in study.trials if t.kind != KIND}


def test_equal_candidates_are_not_called_better(tmp_path: Path) -> None:
    with opened(tmp_path, confirmed(), space=SPACE) as study:
        run(study, noisy(gain=0.0))
    assert ended(study).sentence.startswith("no candidate is better than the default beyond noise")
    assert max(t.sampler_attrs["confirm_seed"] for t in confirmations(study)) < 5


def test_confirmations_are_neither_counted_nor_ranked_nor_pruned(tmp_path: Path) -> None:
    plain = confirmed().model_copy(update={"confirm": ConfirmConfig()})
    with opened(tmp_path, plain, space=SPACE) as alone:
        run(alone, noisy())
    with opened(tmp_path / "confirmed", confirmed(), space=SPACE) as study:
        run(study, noisy())
        snapshot = study.snapshot()
    assert story(study)[: len(alone.trials)] == story(alone)
    assert snapshot.counted == 12
    assert snapshot.counts == alone.snapshot().counts
    assert snapshot.best_number == alone.snapshot().best_number
    assert snapshot.confirmations == len(confirmations(study)) > 0
    assert {trial.state for trial in confirmations(study)} == {TrialState.COMPLETE}
    assert all(trial.reached == 9 for trial in confirmations(study))


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_confirmation_that_is_killed_continues_as_if_uninterrupted(
    tmp_path: Path, acknowledged: bool
) -> None:
    with opened(tmp_path / "whole", confirmed(), space=SPACE) as study:
        run(study, noisy())
        whole = story(study)
        searched = len(whole) - len(confirmations(study))
    writes = 0
    for after in (3, 20, 47):
        with opened(tmp_path / "cut", confirmed(), space=SPACE) as study:
            while len(study.trials) < searched and (job := study.ask()):
                for measurement in noisy()(job, NO_DATA):
                    if study.report(job.key, measurement) != "continue":
                        break
                study.tell(job.key)
        with (
            pytest.raises(Killed),
            opened(
                tmp_path / "cut",
                confirmed(),
                space=SPACE,
                through=lambda ledger, n=after: Dying(ledger, after=n, acknowledged=acknowledged),
            ) as study,
        ):
            run(study, noisy())
        writes += after
    with opened(tmp_path / "cut", confirmed(), space=SPACE) as study:
        run(study, noisy())
        assert story(study) == whole


def test_a_requested_confirmation_searches_no_further_and_answers_at_its_end(
    tmp_path: Path,
) -> None:
    small = config(stop={"trials": 12})
    with opened(tmp_path, small, space=SPACE) as study:
        for _ in range(6):
            job = study.ask()
            assert job is not None
            for measurement in noisy()(job, NO_DATA):
                if study.report(job.key, measurement) != "continue":
                    break
            study.tell(job.key)
        searched = len(study.trials)
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        row = ledger.study("small")
        assert row is not None
        request = ledger.add_request(row.id, KIND, {"top": 1, "seeds": 4})
    with opened(tmp_path, small, space=SPACE, confirm_only=True) as study:
        run(study, noisy())
        assert study.finished
        assert not study.search_finished
        assert ended(study).decided
    assert all(trial.kind == KIND for trial in study.trials[searched:])
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        assert ledger.read_answer(request) == {"decided": True}
    with opened(tmp_path, small, space=SPACE) as study:
        run(study, noisy())
        assert study.snapshot().counted == 12


def test_a_candidate_that_fails_leaves_and_the_others_are_compared(tmp_path: Path) -> None:
    with opened(tmp_path, confirmed(), space=SPACE) as study:
        run(study, noisy(gain=1.0))
        first = ended(study).winner

    def failing(job: TrainingJob) -> bool:
        return job.trial_number >= 12 and job.candidate["decisions"] == chosen

    chosen: Any = None
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        chosen = dict(ledger.trial(1, first or 0).candidate["decisions"])
    with opened(tmp_path / "second", confirmed(), space=SPACE) as study:
        run(study, noisy(1.0, failing))
        found = ended(study)
    verdicts = {each.trial: each.verdict for each in found.candidates}
    assert verdicts[first or 0] == "dropped: bad_candidate"
    assert found.winner not in {None, first}
    assert study.abort_reason is None


def test_a_failing_default_or_all_failing_end_without_a_comparison(tmp_path: Path) -> None:
    def fails(job: TrainingJob) -> bool:
        return job.trial_number >= 12

    with opened(tmp_path, confirmed(), space=SPACE) as study:
        run(study, noisy(1.0, fails))
        assert study.abort_reason is None
        assert study.finished
    assert "cannot be compared with the default, which failed" in ended(study).sentence


FAULTS = [
    pytest.param(MemoryError(), "out_of_memory", 2, id="memory"),
    pytest.param(OSError(errno.EIO, "a lost machine"), "infrastructure", 6, id="machine"),
    pytest.param(DivergedError("val_loss is nan"), "diverged", 1, id="diverged"),
]


def faulty(error: Exception, chosen: Any, times: int) -> Worker:
    """Return a worker that fails so often in a candidate's confirmation with its second seed."""
    faults: list[int] = []

    def train(job: TrainingJob, data: Any) -> Iterator[Measurement]:
        confirms = job.trial_number >= 12 and job.candidate["decisions"] == chosen
        second = confirms and job.trial_number > min([*first, job.trial_number])
        if confirms:
            first.append(job.trial_number)
        for measurement in noisy()(job, data):
            if second and measurement.fidelity == 2 and len(faults) < times:
                faults.append(job.trial_number)
                raise error
            yield measurement

    first: list[int] = []
    return train


QUICK = {"budget": {"minimum": 1, "maximum": 2}}


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answer, Any]:
    """Return the answer of a study without faults, and the decisions of its winner."""
    folder = tmp_path_factory.mktemp("control")
    with opened(folder, confirmed(**QUICK), space=SPACE) as study:
        run(study, noisy())
        found = ended(study)
    with Ledger.open(folder / "ledger.db") as ledger:
        return found, dict(ledger.trial(1, found.winner or 0).candidate["decisions"])


@pytest.mark.parametrize(("error", "reason", "attempts"), FAULTS)
def test_a_lasting_fault_drops_its_candidate_or_the_comparison(
    tmp_path: Path,
    control: tuple[Answer, Any],
    error: Exception,
    reason: str,
    attempts: int,
) -> None:
    expected, best = control
    for name, chosen in (("winner", best), ("default", DEFAULT | {"depth": 0})):
        with opened(tmp_path / name, confirmed(**QUICK), space=SPACE) as study:
            run(study, faulty(error, chosen, times=attempts))
            found = ended(study)
            assert study.finished
            assert study.abort_reason is None
        (failed,) = [t for t in confirmations(study) if t.state is not TrialState.COMPLETE]
        assert (failed.reason, failed.attempts) == (reason, attempts)
        assert found.decided
        if name == "default":
            assert f"cannot be compared with the default, which failed ({reason})" in found.sentence
            assert all(each.gain is None for each in found.candidates)
        else:
            verdicts = {each.trial: each.verdict for each in found.candidates}
            assert verdicts[expected.winner or 0] == f"dropped: {reason}"
            assert found.winner != expected.winner


@pytest.mark.parametrize(("error", "reason", "attempts"), FAULTS[:2])
def test_a_fault_that_a_retry_survives_changes_no_answer(
    tmp_path: Path,
    control: tuple[Answer, Any],
    error: Exception,
    reason: str,
    attempts: int,
) -> None:
    with opened(tmp_path, confirmed(**QUICK), space=SPACE) as study:
        run(study, faulty(error, DEFAULT | {"depth": 0}, times=attempts - 1))
        assert ended(study) == control[0]
    assert max(trial.attempts for trial in confirmations(study)) == attempts
    assert reason not in {trial.reason for trial in study.trials}


def test_a_confirmation_that_kills_its_driver_is_dropped_and_the_race_ends(tmp_path: Path) -> None:
    ledgers: list[Dying] = []

    def mortal(ledger: Ledger) -> Dying:
        ledgers.append(Dying(ledger, after=10**9, acknowledged=True))
        return ledgers[-1]

    def deadly(job: TrainingJob, data: Any) -> Iterator[Measurement]:
        if job.trial_number == 13:  # the second confirmation: the first candidate's
            ledgers[-1].dead = True
            raise Killed
        yield from noisy()(job, data)

    for _ in range(MAX_LOSSES):
        with (
            pytest.raises(Killed),
            opened(tmp_path, confirmed(**QUICK), space=SPACE, through=mortal) as study,
        ):
            run(study, deadly)
    with opened(tmp_path, confirmed(**QUICK), space=SPACE) as study:
        run(study, noisy())
        found = ended(study)
        killer = next(trial for trial in study.trials if trial.number == 13)
        parent = next(trial for trial in study.trials if trial.uid == killer.parent)
    assert killer.reason == "infrastructure"
    assert found.decided
    verdicts = {each.trial: each.verdict for each in found.candidates}
    assert verdicts[parent.number] == "dropped: infrastructure"


def test_a_space_without_default_reports_the_mean_of_the_best(tmp_path: Path) -> None:
    with opened(tmp_path, confirmed()) as study:
        run(study, noisy())
    assert "has no default to compare with; trial" in ended(study).sentence


class Slow(SystemClock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed


def test_hours_leave_time_for_the_confirmation_and_end_it(tmp_path: Path) -> None:
    clock = Slow()

    started: list[float] = []

    def timed(job: TrainingJob, data: Any) -> Iterator[Measurement]:
        started.append(clock.passed)
        for measurement in noisy()(job, data):
            clock.passed += 1.0
            yield measurement

    asked = config(confirm={"top": 2, "seeds": 5}, stop={"hours": 0.2})
    with opened(tmp_path, asked, space=SPACE, clock=clock) as study:
        run(study, timed)
        searched_s = started[-len(confirmations(study))]
        assert study.end_reason == "hours"
    assert ended(study).decided
    # (2 + 1) candidates x 5 seeds x 9 s are reserved of 720 s.
    assert 720 - 135 - 9 <= searched_s <= 720 - 135 + 9
    assert clock.passed <= 720 + 9


def test_a_target_ends_the_search_and_not_the_confirmation(tmp_path: Path) -> None:
    asked = config(confirm={"top": 1, "seeds": 3}, stop={"trials": 12, "target": 0.8})
    with opened(tmp_path, asked, space=SPACE) as study:
        run(study, noisy())
        assert study.end_reason == "target"
        assert study.snapshot().counted < 12
    assert ended(study).decided


def test_parallel_workers_run_one_look_at_once(tmp_path: Path) -> None:
    with opened(tmp_path, confirmed(), space=SPACE) as study:
        engine = InProcessEngine(noisy())
        while not confirmations(study):
            job = study.ask()
            assert job is not None
            engine._train(study, job, NO_DATA)
        jobs = []
        while (job := study.ask()) is not None:
            jobs.append(job)
        assert len(jobs) >= 8 - 1
        assert not study.finished
        for job in reversed(jobs):
            engine._train(study, job, NO_DATA)
        run(study, noisy())
    with opened(tmp_path / "sequential", confirmed(), space=SPACE) as other:
        run(other, noisy())
    assert ended(study) == ended(other)


def test_studies_without_the_key_are_not_confirmed(tmp_path: Path) -> None:
    with opened(tmp_path, space=SPACE) as study:
        run(study, curve)
    assert not confirmations(study)
    assert '"confirm":{"seeds":null,"top":null}' in study.config.canonical_json()
